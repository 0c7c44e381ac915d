from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_figure_1_of_the_stable_snn_paper_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the examples draw with matplotlib")
    out = tmp_path / "figures" / "1.png"
    monkeypatch.setattr(sys, "argv", ["membrane_perturbation.py", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "membrane_perturbation.py"), run_name="__main__")
    assert out.read_bytes().startswith(b"\x89PNG")
