"""Runs the notebooks and keeps what they print: `make notebooks`.

    python tools/notebooks.py [NAME ...]

Each runs in a folder of its own, so that no run of another is found, and is written back with its
outputs. Times, and everything that differs from machine to machine for no reason, are left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"


def main(names: list[str]) -> None:
    """Executes the notebooks of these names, or all."""
    import nbformat
    from nbclient import NotebookClient

    os.environ["OMP_NUM_THREADS"] = "1"
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook, began = nbformat.read(path, as_version=4), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in cell.get("outputs", []) if not _is_log(output)]
            if cell.cell_type != "code":
                del cell["outputs"]
        nbformat.write(notebook, path)
        size = path.stat().st_size / 1024
        print(f"{path.name}: {time.perf_counter() - began:.0f} s, {size:.0f} KB")


def _is_log(output: dict[str, object]) -> bool:
    return output.get("name") == "stderr"


if __name__ == "__main__":
    main(sys.argv[1:])
