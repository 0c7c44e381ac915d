"""Neurons that keep more than a membrane: rates follow from it where the rest is input alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.own_step import Fire
from tests.helpers import assert_close_rms

T, WIDTH = 6, 12
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def compartments(current: Tensor, other: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    other = other - 0.4 * v + current
    v = v + 0.6 * other
    s = Fire.apply(v - 1)
    return s, other - 0.5 * s, v - s


def without_a_path(current: Tensor, other: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    other = other - 0.4 * v + current
    v = v + 0.6 * other
    s = Fire.apply(v - 1)
    return s, other - 0.5 * s.detach(), v - s.detach()


def fed_back(current: Tensor, other: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A synapse to which the neuron's own spikes come back."""
    other = 0.5 * other + current
    v = 0.8 * v + other
    s = Fire.apply(v - 1)
    return s, other - 0.7 * s, v - s


def synapse(current: Tensor, other: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    other = 0.5 * other + current
    v = 0.8 * v + other
    s = Fire.apply(v - 1)
    return s, other, v - s


class Net(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(16, WIDTH), nn.Linear(WIDTH, 3)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        other = v = torch.zeros(len(x), WIDTH)
        out: Tensor | float = 0.0
        for _ in range(T):
            s, other, v = self.step(2 * self.first(x.flatten(1)), other, v)
            out = out + self.last(s)
        assert isinstance(out, Tensor)
        return out


@pytest.mark.parametrize("step", [compartments, without_a_path, fed_back])
def test_a_second_state_that_the_neuron_acts_on_has_no_rate(step: Step) -> None:
    victim = adapt(Net(step), images=IMAGES)
    for mode in ("bptr", "rga", "hart"):
        assert "keeps more than its membrane" in (victim.takes(mode).refusal or "")
    gradients = []
    for mode in ("own", "ste"):  # the same of its spike function
        x = IMAGES.clone().requires_grad_()
        logits = victim.replace(gradient=mode)(x)
        gradients.append(torch.autograd.grad(logits.square().sum(), x)[0])
    assert_close_rms(*gradients)


def test_a_filter_of_the_input_has_one() -> None:
    victim = adapt(Net(synapse), images=IMAGES)
    assert all(victim.takes(mode).refusal is None for mode in ("bptr", "rga", "hart"))
