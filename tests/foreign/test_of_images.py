"""Spikes are found again whatever else a network does, and whatever its images look like."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.own_step import Fire
from tests.helpers import assert_close_rms, logits_and_gradient

IMAGES = torch.rand(7, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def nothing(net: nn.Linear, x: Tensor) -> Tensor:
    return net.weight


def states_one_by_one(net: nn.Linear, x: Tensor) -> Tensor:
    for row in torch.zeros(len(x), 4):
        row.fill_(-1.0)
    return net.weight


def kept_in_a_state(net: nn.Linear, x: Tensor) -> Tensor:
    bright = torch.zeros(len(x), 36)
    bright[:] = x.detach() > 0.5  # follows from the images without a gradient
    for row in torch.zeros(len(x), 36):
        row += 1
    bright *= 2  # and is not read
    return net.weight


def weights_that_train(net: nn.Linear, x: Tensor) -> Tensor:
    weight = net.weight
    for _ in range(len(x)):
        weight = weight * 2 / 2
    return weight


class Net(nn.Module):
    """Fires by a comparison, after something whose operations depend on the number of images."""

    def __init__(self, before: Callable[[nn.Linear, Tensor], Tensor], fire: Callable[..., Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(36, 24), nn.Linear(24, 4)
        self.before, self.fire = before, fire

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        v, total = torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.5 * v + 2 * nn.functional.linear(x, self.before(self.one, x), self.one.bias)
            spikes = self.fire(v - 0.5)
            v = v * (1 - spikes)
            total = total + self.two(spikes)
        return total


def compared(z: Tensor) -> Tensor:
    return (z > 0).float()


def gradient(net: nn.Module, images: Tensor) -> Tensor:
    return logits_and_gradient(net, images)[1]


@pytest.mark.parametrize("before", [states_one_by_one, kept_in_a_state, weights_that_train])
def test_what_depends_on_the_number_of_images_moves_no_spikes(
    before: Callable[[nn.Linear, Tensor], Tensor],
) -> None:
    victim = adapt(Net(before, compared), images=IMAGES, gradient="ste")
    assert victim.takes("ste").neurons and not victim.takes("ste").missed
    for images in (IMAGES, IMAGES[:2], IMAGES[3:4]):
        assert_close_rms(gradient(victim, images), gradient(Net(nothing, Fire.apply), images))


class Drawn(nn.Module):
    """Turns pixels into spikes by numbers that it holds."""

    def __init__(self, fire: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fire, self.layer = fire, nn.Linear(36, 4)
        self.levels = torch.rand(3, 36)

    def forward(self, x: Tensor) -> Tensor:
        spikes = [self.fire(x.flatten(1), level).float() for level in self.levels]
        out: Tensor = sum(map(self.layer, spikes))
        return out


@pytest.mark.parametrize(
    "images", [(IMAGES > 0.5).float(), (4 * IMAGES).round() / 4], ids=["black and white", "greys"]
)
def test_a_picture_in_few_greys_is_not_made_of_spikes(images: Tensor) -> None:
    victim = adapt(Drawn(torch.gt), images=images, gradient="ste")
    assert victim.takes("ste").neurons and not victim.takes("ste").missed
    assert_close_rms(
        gradient(victim, images), gradient(Drawn(lambda a, b: Fire.apply(a - b)), images)
    )


class Filtered(nn.Module):
    """Adds spikes to a trace of those before, which is detached."""

    def __init__(self, through: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.through, self.two = nn.Linear(36, 24), through, nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        v, trace, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.5 * v + 2 * self.one(x.flatten(1))
            spikes = Fire.apply(v - 0.5)
            v = v * (1 - spikes)
            trace = 0.5 * trace.detach() + 0.5 * self.through(spikes)
            total = total + self.two(trace)
        return total


@pytest.mark.parametrize("through", [nn.Dropout(), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(12)])
def test_pooled_spikes_beside_a_trace_are_no_other_spikes(through: nn.Module) -> None:
    net = Filtered(through).eval()
    net(IMAGES)
    victim = adapt(net, images=IMAGES)
    assert victim.takes("bptt").neurons == ("Filtered",)
    assert "rounding" not in victim.net.summary()
