"""Measures of input gradients and of the membranes behind them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import robust_snn
from picky import SHAPE, Picky, pictures, reaches_nothing
from robust_snn import Victim
from robust_snn.diagnostics.input_gradients import (
    _distances,
    _judged,
    batch_independence,
    finite_differences,
)


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_a_gradient_that_follows_batch_mates_shows(digits: Any, scope: str) -> None:
    victim = digits.victim.replace(gradient=f"pdsg(scope={scope})")
    result = batch_independence(victim, digits.images[:16], digits.labels[:16], alone=2)
    assert result.status == {"sample": "pass", "batch": "warn"}[scope], result


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
    few = _judged(torch.tensor([[1.0, -2.0, 1.0]]), chance, 25)
    assert few.status == "warn" and "too few to tell" in few.why
    assert _judged(torch.zeros(1, 3), torch.zeros(2, 30, 3), 25).status == "warn"


def test_distances_are_those_of_the_membranes() -> None:
    neuron = robust_snn.neurons.LIF(decay=0.5, threshold=1.0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = neuron

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.neuron(2 * x.flatten(1).expand(2, len(x), -1)).mean(0)

    x = torch.tensor([[[[0.3, 1.0]]]])
    result = _distances(Victim(Net().eval()), x, torch.zeros(1, dtype=torch.int64), 0)["neuron"]
    assert torch.allclose(result[:, 0], torch.tensor([[0.4, 1.0], [0.1, 1.0]]), atol=1e-6)
