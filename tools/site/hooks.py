"""Hooks of MkDocs: pages that lie outside `docs`, and those that the program itself knows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import notebook_pages
import reference

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {  # address on the site: file of the repository
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
    "interval-coverage.md": "studies/interval_coverage.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that no file of `docs` holds."""
    pages = {address: (ROOT / source).read_text("utf-8") for address, source in OUTSIDE.items()}
    for address, text in {**pages, **reference.pages(), **notebook_pages.pages()}.items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links between files of the repository become links of the site."""
    for address, source in OUTSIDE.items():
        for link in (f"](../{source})", f"]({source})"):
            markdown = markdown.replace(link, f"]({address})")
    markdown = notebook_pages.LINK.sub(r"](notebooks/\1.md)", markdown)
    return markdown.replace("](docs/", "](")
