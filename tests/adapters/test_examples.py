"""Every example of the adapters runs as it stands."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LIBRARIES = {
    "attack_with_art": "art",
    "attack_with_autoattack": "pyautoattack",
    "attack_with_foolbox": "foolbox",
    "attack_with_torchattacks": "torchattacks",
    "benchmark_like_robustbench": "pyautoattack",
    "evaluate_snntorch": "snntorch",
    "evaluate_spikingjelly": "spikingjelly",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(LIBRARIES[name], reason=f"needs {LIBRARIES[name]}")
    if name == "evaluate_snntorch":
        pytest.importorskip("torchattacks", reason="needs torchattacks")
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "%" in (out := capsys.readouterr().out) and "nan" not in out
