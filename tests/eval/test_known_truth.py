"""Robust accuracies that are known: a verdict is never below, and near or with a reason."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from known_truth import SIZE, Known, known
from masks import own, same
from robust_snn import evaluate
from robust_snn.attacks import BUDGETS
from robust_snn.eval import AttackSpec, Draws, Suite, Verdict

EPS, SCORED = 0.08, 16
APGD = AttackSpec("apgd", "robust_snn", "apgd", gradient="bptt", steps=15)
FIXED = Suite("fixed", (APGD,), draws=Draws(4, 4))
ADAPTIVE = Suite("adaptive", (APGD,), draws=Draws(4, 4), budget="small")
NEAR = 0.07  # of the truth, an image in sixteen
modes = importlib.import_module("robust_snn.attacks.mode_ranking")


def pixels(every: int) -> Tensor:
    """1 at every so many pixels."""
    return (torch.arange(SIZE**2) % every == 0).reshape(1, 1, SIZE, SIZE).float()


def part(function: Callable[[Tensor], Tensor], every: int) -> Callable[[Tensor], Tensor]:
    """A function of every so many pixels alone."""
    return lambda x: x * (1 - pixels(every)) + function(x) * pixels(every)


def ripple(height: float, frequency: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + height * (frequency * x).sin()


def gate(x: Tensor) -> Tensor:
    return (10 * (x - 0.5) + 0.5).clamp(0, 1)


def hard_tanh(x: Tensor) -> Tensor:
    return F.hardtanh(8 * (x - 0.5)) / 2 + 0.5


def turned(every: int) -> Callable[[Tensor], Tensor]:
    return own(same, lambda gradient: gradient * (1 - 2 * pixels(every)))


# what is before the neurons; what an adaptive and a fixed suite say where the truth is lower
ROWS: dict[str, tuple[Callable[[Tensor], Tensor], str | None, str | None]] = {
    "honest": (torch.clone, None, None),
    "levels of grey": (lambda x: (16 * x).round() / 16, None, None),
    "cut pixels": (gate, None, "gradients left out"),
    "hard tanh": (hard_tanh, None, "gradients left out"),
    "detached pixels": (part(Tensor.detach, 2), None, "pixels without a gradient"),
    "gradient turned at some pixels": (turned(4), None, "gradients left out"),
    "high ripples": (ripple(0.05, 200), "finite differences", "finite differences"),
    "long ripples": (ripple(0.1, 60), "steady gradients", "steady gradients"),
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of two modes, and a budget of one attack."""
    few = [*map(modes.parse_mode, ("bptt", "bptr"))]
    monkeypatch.setattr(modes, "registered_modes", lambda: few)
    monkeypatch.setattr(modes.RankingEffort, "on", lambda images: modes.RankingEffort(3, 0))
    monkeypatch.setitem(BUDGETS, "small", (("apgd", "ce", 0, 15, 1),))


def judged(truth: Known, suite: Suite, out: Path) -> Verdict:
    scored, rest = slice(SCORED), slice(SCORED, None)
    unscored = None if suite is FIXED else (truth.images[rest], truth.labels[rest])
    return evaluate(
        truth.net,
        truth.images[scored],
        truth.labels[scored],
        suite=suite,
        eps=EPS,
        out=out,
        calibration=unscored,
        report=False,
    )


@pytest.mark.parametrize("suite", [FIXED, ADAPTIVE], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("name", ROWS)
def test_a_verdict_is_near_the_truth_or_says_why_not(
    name: str, suite: Suite, short: None, tmp_path: Path
) -> None:
    before, adaptive, fixed = ROWS[name]
    truth = known(before, EPS)
    holds = float(truth.holds[:SCORED].double().mean())
    verdict = judged(truth, suite, tmp_path)
    gap = verdict.robust.accuracy - holds
    said = [note.name for note in verdict.diagnostics if note.status != "pass"]
    said = [name for name in said if not name.startswith("not tried")]
    assert gap >= 0
    reason = fixed if suite is FIXED else adaptive
    if reason is None:
        assert gap <= NEAR and not said, (gap, said)
    else:
        assert gap > NEAR and reason in said, (gap, said)


def test_another_network_in_large_batches_alone_is_named(tmp_path: Path) -> None:
    def turned_in_crowds(x: Tensor) -> Tensor:
        return x.flip(-1) if x.requires_grad and len(x) > 16 else x

    net, images, labels, _ = known(turned_in_crowds, EPS)
    verdict = evaluate(net, images, labels, suite=FIXED, eps=EPS, out=tmp_path, report=False)
    notes = {note.name: note.status for note in verdict.diagnostics}
    assert notes["passes with a gradient"] == "fail"
