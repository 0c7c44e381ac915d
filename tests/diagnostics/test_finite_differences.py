"""Differences of the margin tell gradients that lead somewhere from others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from picky import SHAPE, Picky, pictures, reaches_nothing
from robust_snn import Victim
from robust_snn.diagnostics.finite_differences import _diagnostic, finite_differences


class Turned(Picky):
    """Rectified linear units whose gradient is turned by fixed signs."""

    def __init__(self, signs: torch.Tensor) -> None:
        super().__init__(reaches_nothing, None)
        self.signs = signs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = x.detach() + self.signs * (x - x.detach())
        return super().forward(turned)


class Flat(Picky):
    """Answers in whole numbers, which a small step does not change."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits + 10 * (logits / 10).round().detach() - logits.detach()


RANDOM = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).sign()


@pytest.mark.parametrize(
    ("net", "status"),
    [
        (Turned(torch.ones(SHAPE)), "pass"),
        (Turned(-torch.ones(SHAPE)), "fail"),
        (Turned(torch.zeros(SHAPE)), "fail"),
        (Turned(RANDOM), "fail"),
        (Flat(reaches_nothing), "warn"),
    ],
    ids=["honest", "reversed", "zero", "random", "flat"],
)
def test_differences_tell_honest_gradients_from_others(net: Picky, status: str) -> None:
    note = finite_differences(Victim(net), *pictures(net, 16), eps=0.1)
    assert note.status == status, note


def test_too_few_images_are_no_failure() -> None:
    chance = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0)) * 10 + 10
    one_class = torch.full((3,), torch.nan)
    few = _diagnostic(torch.tensor([[1.0, -2.0, 1.0]]), chance, one_class, 25)
    assert few.status == "warn" and "too few to tell" in few.why
    assert _diagnostic(torch.zeros(1, 3), torch.zeros(2, 30, 3), one_class, 25).status == "warn"


class Decoyed(Picky):
    """Decides by something without a gradient, beside little that has one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return F.one_hot(logits.argmax(1), 5) + 1e-2 * (x.flatten(1) @ BESIDE)


BESIDE = torch.randn(192, 5, generator=torch.Generator().manual_seed(3))


def test_a_gradient_of_what_does_not_decide_shows() -> None:
    net = Decoyed(reaches_nothing, None)
    note = finite_differences(Victim(net), *pictures(net, 16), eps=0.02)
    assert note.status == "fail", note


def test_the_best_mode_decides(digits: Any) -> None:
    dead = "bptt(surrogate=triangle(gamma=0.005))"
    of = digits.victim, digits.images[:16], digits.labels[:16]
    both = finite_differences(*of, eps=0.1, modes=[dead, "bptr"])
    assert both == finite_differences(*of, eps=0.1, modes=["bptr"]) and both.status == "pass"
    assert finite_differences(*of, eps=0.1, modes=[dead]).status == "fail"
