"""What spikes go on to without a gradient: the reset of their own neuron, or others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.helpers import assert_close_rms, logits_and_gradient

IMAGES = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
MODE = "bptt(surrogate=triangle(gamma=1))"


class Step(torch.autograd.Function):
    """A step with the surrogate of `MODE`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


class Inherited(Step):
    """Another class, with the forward and backward passes of the first."""


class Graded(torch.autograd.Function):
    """A membrane above its threshold, both of which are tensors."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor) -> Tensor:
        return v * (v >= threshold)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0], None


class Whole(torch.autograd.Function):
    """Spikes, and the membrane that is left."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        spikes = (v >= 1).float()
        return spikes, v * (1 - spikes)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


listed = [Whole.apply, Graded.apply]  # so that their forward passes are not looked into


def fire(v: Tensor) -> Tensor:
    return Step.apply(v - 1)


def detached(v: Tensor) -> Tensor:
    return v * (1 - fire(v).detach())


def without_gradient(v: Tensor) -> Tensor:
    with torch.no_grad():
        left = 1 - fire(v)
    return v * left


def set_where(mask: Tensor) -> Tensor:
    reset = torch.zeros(mask.shape)
    reset[mask] = 1.0
    return reset


def written(v: Tensor) -> Tensor:
    spikes = torch.sigmoid(v - 1).clone()
    spikes.data.copy_((v.data >= 1).float())
    return spikes


class Net(nn.Module):
    """A layer that fires by a step, and one behind it.

    Args:
        spikes: What the second layer fires.
        left: What is left of a membrane.
        one_to_one: The first layer is connected to the second neuron by neuron; it fires by this.
    """

    def __init__(
        self,
        spikes: Callable[[Tensor], Tensor] = fire,
        left: Callable[[Tensor], Tensor] = detached,
        one_to_one: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spikes, self.left, self.one_to_one = spikes, left, one_to_one
        self.first, self.second, self.last = nn.Linear(36, 12), nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        v = u = torch.zeros(len(x), 12)
        out = torch.zeros(1)
        for _ in range(4):
            v = 0.5 * v + 3 * self.first(x.flatten(1))
            if self.one_to_one is None:
                u = 0.5 * u + 3 * self.second(fire(v))
            else:
                u = 0.5 * u + 0.8 * self.one_to_one(v)
            v = detached(v)
            out = out + self.last(self.spikes(u))
            u = self.left(u)
        return out


def gradient(net: nn.Module) -> Tensor:
    return logits_and_gradient(net, IMAGES)[1]


NAMED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "detached, times its membrane": (lambda v: fire(v).detach() * v, "detached"),
    "a comparison, detached": (lambda v: (v > 1).float().detach() * v, "detached"),
    "a function of two tensors": (lambda v: Graded.apply(v, torch.ones(12)), "no step function"),
    "a function with two outputs": (lambda v: listed[0](v)[0], "no step function"),
}
RESETS: dict[str, Callable[[Tensor], Tensor]] = {
    "detached": detached,
    "under no_grad": without_gradient,
    "of a detached membrane": lambda v: v.detach() * (1 - fire(v).detach()),
    "subtracted": lambda v: v - fire(v).detach(),
    "by a mask, set": lambda v: v - set_where(v.detach() >= 1),
    "by a mask": lambda v: torch.where(v.detach() >= 1, torch.zeros_like(v), v),
}
FIRES: dict[str, Callable[[Tensor], Tensor]] = {
    "normalised": lambda v: fire(nn.functional.layer_norm(v, [12])),
    "rectified": lambda v: fire(v.relu()),
    "by a class that inherits": lambda v: Inherited.apply(v - 1),
    "in double precision": lambda v: fire(v.double()).float(),
}


@pytest.mark.parametrize("name", NAMED)
def test_spikes_that_reach_others_without_a_gradient_are_named(name: str) -> None:
    spikes, why = NAMED[name]
    reach = adapt(Net(spikes), images=IMAGES).takes("bptt")
    assert reach.neurons and why in next(iter(reach.missed.values()))


@pytest.mark.parametrize("name", [*RESETS, *FIRES])
def test_a_reset_is_not_named(name: str) -> None:
    net = Net(FIRES.get(name, fire), RESETS.get(name, detached))
    victim = adapt(net, images=IMAGES)
    assert not victim.takes("bptt").missed
    assert_close_rms(gradient(victim.replace(gradient=MODE)), gradient(net))
    assert gradient(victim.replace(gradient="pdsg")).isfinite().all()


def test_spikes_written_by_way_of_their_data_are_those_of_a_step() -> None:
    of_data, of_step = adapt(Net(written), images=IMAGES), adapt(Net(fire), images=IMAGES)
    assert not of_data.takes("bptt").missed
    for mode in (MODE, "bptr", "pdsg"):
        found, expected = (gradient(victim.replace(gradient=mode)) for victim in (of_data, of_step))
        assert_close_rms(found, expected)


class Written(Net):
    """Its second layer is reset where the spikes that it wrote down are above a half."""

    def forward(self, x: Tensor) -> Tensor:
        v, u = torch.zeros(len(x), 12), torch.zeros(len(x), 12)
        spikes = torch.zeros(len(x), 12, 4)
        for step in range(4):
            v = 0.5 * v + 3 * self.first(x.flatten(1))
            before = spikes[..., max(step - 1, 0)]
            u = 0.5 * u * (1 - (before > 0.5).float()) + 3 * self.second(fire(v))
            v = detached(v)
            spikes[..., step] = self.spikes(u)
        return self.last(spikes.sum(-1))


def test_a_reset_by_spikes_that_were_written_down_is_none_of_others() -> None:
    net = Written(lambda v: listed[1](v, torch.ones(12)))
    victim = adapt(net, images=IMAGES)
    assert len(victim.net.neurons) == 2
    assert_close_rms(gradient(victim.replace(gradient=MODE)), gradient(net))


def test_a_comparison_that_enters_other_neurons_one_to_one_is_no_reset() -> None:
    net, reference = (Net(one_to_one=f) for f in (lambda v: (v >= 1).float(), fire))
    victim = adapt(net, images=IMAGES)
    assert len(victim.takes("bptt").neurons) == 2
    assert_close_rms(gradient(victim.replace(gradient=MODE)), gradient(reference))
