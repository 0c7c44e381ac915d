"""What is squashed before it is compared, as by a sigmoid, is a step of what it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.compared_nets import IMAGES, MODE, SOFT, through
from tests.helpers import assert_close_rms


def in_place(z: Tensor) -> Tensor:
    copy = z.clone()
    return copy.relu_() > 0


SQUASHED: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (  # of `v - 1` and of its soft function
    lambda z, q: nn.functional.threshold(z, 0.0, 0.0) > 0,
    lambda z, q: z.clamp(0, 1).ceil(),
    lambda z, q: torch.round(torch.sigmoid(z)),
    lambda z, q: torch.round(q),
    lambda z, q: q > 0.5,
    lambda z, q: q.square() > 0.25,
    lambda z, q: (q / (1 - q)).log() > 0,
    lambda z, q: torch.sign(torch.relu(z)),
    lambda z, q: torch.tanh(3 * z).heaviside(torch.zeros(())),
    lambda z, q: z + z.abs() > 0,
    lambda z, q: torch.where(z > 0, z, torch.zeros_like(z)) > 0,
    lambda z, q: nn.functional.relu(-z) <= 0,
    lambda z, q: in_place(z),
)


class Sites(nn.Module):
    """One layer of neurons for each of several spike functions, side by side."""

    def __init__(self, fires: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fires = fires
        self.layers = nn.ModuleList(nn.Linear(36, 12) for _ in fires)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(1)
        for number, (layer, fire) in enumerate(zip(self.layers, self.fires, strict=True)):
            v = torch.zeros(1)
            for _ in range(2):
                v = 0.8 * v + 4 * layer(x.flatten(1))
                spikes = fire(v)
                v = v - spikes
                out = out + self.last(spikes) * (1 + number)
        return out


def straight_through(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def fire(v: Tensor) -> Tensor:
        q = torch.sigmoid(20 * (v - 1))
        return q + (form(v - 1, q).to(v.dtype) - q).detach()

    return fire


def alone(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda v: form(v - 1, torch.sigmoid(20 * (v - 1))).to(v.dtype)


@pytest.mark.parametrize("way", [straight_through, alone])
def test_what_is_squashed_before_it_is_compared_is_a_step_of_what_it_was(
    way: Callable[[Callable[[Tensor, Tensor], Tensor]], Callable[[Tensor], Tensor]],
) -> None:
    net = Sites([way(form) for form in SQUASHED])
    victim = adapt(net, images=IMAGES)
    assert len(victim.net.neurons) == len(SQUASHED)
    assert not victim.takes("pdsg").missed
    reference = through(Sites([SOFT] * len(SQUASHED)))
    found = through(victim.replace(gradient=MODE))
    assert_close_rms(found[0], reference[0])
    assert_close_rms(found[1], reference[1])
