"""The notebooks as pages of the site, with the outputs that they were committed with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "notebooks"
LINK = re.compile(r"\]\(\.\./examples/notebooks/([\w-]+)\.ipynb\)")  # from a page of docs
BESIDE = re.compile(r"\]\(([\w-]+)\.ipynb\)")  # from one notebook to another


def pages() -> dict[str, str]:
    """The text of every notebook in Markdown, by its address."""
    return {f"notebooks/{path.stem}.md": _page(path) for path in sorted(FOLDER.glob("*.ipynb"))}


def _page(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell)) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    """A cell and what it printed or drew."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [BESIDE.sub(r"](\1.md)", source).replace("](../../docs/", "](../")]
    return [f"```python\n{source}\n```", *(_shown(output) for output in cell["outputs"])]


def _shown(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        source = f"data:image/png;base64,{data['image/png'].strip()}"
        return f'<img alt="figure of the cell above" src="{source}">'
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```"
