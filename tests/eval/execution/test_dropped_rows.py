"""Rows of an adaptive suite that find nothing run on the first shards alone."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim, evaluate
from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.eval.execution.preflight import Preflight
from victims import StandIn, told_by

EPS = 0.03
STILL = {"alpha": 1e-9, "random_start": False}
WEAK, STRONG, NOTHING, DULL, MANY, BLIND = (
    AttackSpec("weak", "robust_snn", "fgsm"),
    AttackSpec("strong", "robust_snn", "pgd", steps=9),
    AttackSpec("nothing", "robust_snn", "pgd", steps=1, options=STILL),
    AttackSpec("dull", "robust_snn", "pgd", steps=1, options=STILL),
    AttackSpec("many", "robust_snn", "pgd", steps=1, restarts=2, options=STILL),
    AttackSpec("blind", "autoattack", "square", steps=2),
)


class Smooth(StandIn):
    """A net without spikes, whose answers no batch size changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.double().float())
        return logits


def run(rows: tuple[AttackSpec, ...], out: Path, **more: Any) -> Any:
    victim = Victim(Smooth())
    images, labels = told_by(victim, 40)
    suite = Suite("a", rows, draws=Draws(1, 1), budget=more.pop("budget", None))
    given = {"suite": suite, "out": out, "eps": EPS, "batch_size": 10, **more}
    return evaluate(victim, images, labels, **given)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite with a budget whose attacks are those of its file."""

    def kept(checked: Preflight, *_: Any) -> Preflight:
        return checked

    module = importlib.import_module("robust_snn.eval.evaluate")
    monkeypatch.setattr(module, "choose_attacks", kept)


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])  # a process
def test_what_finds_nothing_is_dropped_and_named(
    workers: int | None, chosen: None, tmp_path: Path
) -> None:
    images = told_by(Victim(Smooth()), 4)
    more: dict[str, Any] = {"budget": "small", "calibration": images, "workers": workers}
    rows = (NOTHING, WEAK, DULL, MANY, BLIND)
    verdict = run(rows, tmp_path, **more)
    met = {row.name: row.images for row in verdict.attacks}
    (note,) = [note for note in verdict.diagnostics if note.name == "dropped attacks"]
    assert note.status == "pass" and "dull (" in note.why and "weak" not in note.why
    assert met["nothing"] == 40  # the first row stays
    assert met["dull"] < met["blind"] <= met["many"]  # and so do the last resorts
    assert len(list((tmp_path / "pieces").glob("03-dull/*.npz"))) == 2
    (tmp_path / "verdict.json").unlink()
    for piece in (tmp_path / "pieces").glob("*/00003.npz"):
        piece.unlink()
    again = run(rows, tmp_path, **more)
    assert again.robust == verdict.robust and again.diagnostics == verdict.diagnostics


def test_other_suites_drop_nothing(tmp_path: Path) -> None:
    verdict = run((WEAK, NOTHING), tmp_path)
    assert not any(note.name == "dropped attacks" for note in verdict.diagnostics)
    assert verdict.attacks[1].images == round(40 * verdict.attacks[0].accuracy)


def test_a_row_has_the_same_random_numbers_wherever_it_stands(tmp_path: Path) -> None:
    """So it comes to the same with those that rows before it left."""
    found = []
    for name, rows in (("alone", (STRONG,)), ("after", (WEAK, STRONG))):
        run(rows, tmp_path / name)
        pieces = sorted((tmp_path / name / "pieces").glob("*-strong/*.npz"))
        found.append([dict(np.load(piece)) for piece in pieces])
    fewer = 0
    for alone, after in zip(*found, strict=True):
        fewer += len(alone["positions"]) - len(after["positions"])
        places = np.flatnonzero(np.isin(alone["positions"], after["positions"]))
        assert np.allclose(alone["margin"][places], after["margin"], atol=1e-5)
    assert fewer > 0
