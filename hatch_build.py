"""Metadata that depends on where the repository lies, which no file here says.

`ROBUST_SNN_REPOSITORY`, which the release workflow sets to the address of its repository, becomes
the project's URLs, and links and pictures of the README point there. Without it links become plain
text, since a page of a package index has no files beside it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)\n*")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)]+)\)")


class RepositoryHook(MetadataHookInterface):
    """Sets `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Adds what is dynamic to the metadata of the project."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("ROBUST_SNN_REPOSITORY", "").rstrip("/")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme(text, repository, f"v{metadata['version']}"),
        }
        metadata["urls"] = urls(repository)


def readme(text: str, repository: str, tag: str) -> str:
    """The README as a page that stands alone.

    Args:
        text: The README.
        repository: Address of the repository on a host like GitHub; empty if it is not known.
        tag: Tag of the release.
    """
    text = text.replace("<!-- parsed, not run -->\n", "")
    if not repository:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    text = PICTURE.sub(rf"![\1]({repository}/raw/{tag}/\2)\n", text)
    return LINK.sub(rf"[\1]({repository}/blob/{tag}/\2)", text)


def urls(repository: str) -> dict[str, str]:
    """The project's URLs; none where the repository is not known."""
    if not repository:
        return {}
    return {
        "Source": repository,
        "Documentation": f"{repository}/tree/main/docs",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
