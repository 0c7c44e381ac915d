"""Which comparisons are of spikes: those that do more than to reset their own membrane."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.compared_nets import (
    COMPARED,
    IMAGES,
    MODE,
    SOFT,
    Net,
    Step,
    assert_same_gradient,
)


class Jumping(Net):
    """Its second layer has no spikes: a membrane jumps up where it reaches the threshold."""

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros(len(x), 4)
        for _ in range(4):
            u = 0.8 * u + self.two(self.one(x.flatten(1)))
            u = u + 2 * self.fire(u + 0.9)
        return u


class JumpingOnce(Net):
    """Its membrane jumps up at the end, which no later step shows."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.two(self.one(x.flatten(1)))
        return u + 2 * self.fire(u + 0.9)


@pytest.mark.parametrize("build", [Jumping, JumpingOnce])
def test_a_jump_of_a_membrane_that_is_read_is_one_of_spikes(build: type[Net]) -> None:
    victim = adapt(build(COMPARED), images=IMAGES)
    assert_same_gradient(victim.replace(gradient=MODE), build(SOFT))
    if build is Jumping:
        assert "do not reset" in (victim.takes("bptr").refusal or "")


class Refractory(Net):
    """Its earlier spikes lower a membrane, and are kept in a list."""

    def forward(self, x: Tensor) -> Tensor:
        current, spikes = 3 * self.one(x.flatten(1)), list[Tensor]()
        for step in range(4):
            lowered = sum((0.6 ** (step - at) * s for at, s in enumerate(spikes)), torch.zeros(1))
            spikes.append(self.fire(0.5 * (step + 1) * current - lowered))
        return self.two(torch.stack(spikes).mean(0))


class LastStep(Net):
    """Its earlier spikes do nothing but reset the membrane whose last spikes are read."""

    def forward(self, x: Tensor) -> Tensor:
        current, v = 3 * self.one(x.flatten(1)), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + current
            spikes = self.fire(v)
            v = v * (1 - spikes)
        return self.two(spikes)


@pytest.mark.parametrize("build", [Refractory, LastStep])
def test_spikes_of_earlier_steps_are_no_part_of_the_function_of_later_ones(
    build: type[Net],
) -> None:
    victim = adapt(build(COMPARED), images=IMAGES)
    assert_same_gradient(victim.replace(gradient=MODE), build(SOFT))


class Subtracting(Net):
    """What is read is a membrane from which its spikes are subtracted."""

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros(1)
        for _ in range(4):
            u = 0.8 * u + self.two(self.one(x.flatten(1))) + 0.5
            u = u - self.fire(u)
        return u


def test_spikes_that_cancel_straight_through_have_other_gradients() -> None:
    victim = adapt(Subtracting(SOFT), images=IMAGES)
    for mode in ("own", MODE):
        assert_same_gradient(victim.replace(gradient=mode), Subtracting(SOFT))


class Beside(Net):
    """A layer with a gradient beside one without, whose reset compares once more."""

    def __init__(self, fire: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__(fire)
        self.other, self.skip = other, nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + 3 * self.one(x.flatten(1))
            spikes = self.fire(v)
            v = v * (1 - (v > 1).float())
            u = 0.9 * u + 2 * self.two(spikes) + self.skip(x.flatten(1))
            out = self.other(u)
            u = u - (u > 1).float().detach()
            total = total + out + self.two(spikes)
        return total


def test_spikes_without_a_gradient_beside_others_are_no_reset() -> None:
    for fires in ((SOFT, COMPARED), (COMPARED, SOFT)):
        victim = adapt(Beside(*fires), images=IMAGES)
        assert victim.net.neurons == ("Beside#1", "Beside#2")
        assert_same_gradient(victim.replace(gradient=MODE), Beside(SOFT, SOFT))


class ToThreshold(Net):
    """Spikes that also reset their membrane to the threshold, which jumps nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + 3 * self.one(x.flatten(1))
            spikes = self.fire(v)
            v = v - torch.relu(v - 1) * spikes
            u = 0.9 * u + 2 * self.two(spikes)
            out = self.fire(u)
            u = u - torch.relu(u - 1) * out
            total = total + out
        return total / 4


def test_a_reset_to_the_threshold_takes_no_spikes_from_others() -> None:
    victim, twin = (adapt(ToThreshold(f), images=IMAGES) for f in (COMPARED, Step.apply))
    assert len(victim.takes("bptt").neurons) == 2 and not victim.takes("bptt").missed
    for mode in (MODE, "ste", "pdsg"):
        assert_same_gradient(victim.replace(gradient=mode), twin.replace(gradient=mode))
