"""The notebooks run, here in this process, and are committed as executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def cells(name: str) -> list[dict[str, Any]]:
    """The cells of code of a notebook."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs the extra report")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    state = torch.get_rng_state()
    for cell in cells(name):
        exec(compile("".join(cell["source"]), name, "exec"), names)
    pyplot.close("all")
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_as_executed(name: str) -> None:
    """In order and without errors, as `make notebooks` leaves it, and small."""
    found = cells(name)
    outputs = [output for cell in found for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    assert outputs and all(output["output_type"] != "error" for output in outputs)
    assert "%pip install" in "".join(found[0]["source"])
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 60_000


def test_all_six_are_there() -> None:
    assert len(NOTEBOOKS) == 6
