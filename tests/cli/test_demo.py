"""The demonstration, shrunk until it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from robust_snn.cli import demo


def test_demo_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    demo._say_what_is_missing()
    said = " ".join(capsys.readouterr().out.split())
    assert "jinja2 and matplotlib not installed" in said and "robust-snn[report]" in said


@pytest.mark.slow
def test_demo_writes_verdicts_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "IMAGES", 6)
    monkeypatch.setattr(demo, "CURVE", (0.0, 0.1))
    verdicts = demo.run_demo(tmp_path)
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    for model in demo.MODELS:
        written = json.loads((tmp_path / model / "verdict" / "verdict.json").read_text())
        assert written["model"]["name"] == model
        assert written["robust"]["accuracy"] == verdicts[model].robust.accuracy
    again = demo.run_demo(tmp_path)  # as the same command does
    assert {name: v.robust for name, v in again.items()} == {
        name: v.robust for name, v in verdicts.items()
    }
    console = Console(width=140, record=True)
    console.print(demo.render_demo(verdicts))
    assert console.export_text().count("worst case") == len(demo.MODELS)
