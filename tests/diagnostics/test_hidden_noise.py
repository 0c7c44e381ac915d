"""Noise that follows from the image is told from none, and from noise that is drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from robust_snn.diagnostics.hidden_noise import hidden_noise
from tests.foreign.own_step import Fire

IMAGES = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 4


def seeded(x: Tensor) -> Tensor:
    seeds = (x.sum((1, 2, 3)) * 1e4).long().tolist()
    drawn = [torch.rand(36, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).view_as(x)


NOISES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "none": (torch.zeros_like, "pass"),
    "rounding": (lambda x: (255 * x).floor() / 255 - x, "pass"),
    "drawn": (torch.rand_like, "pass"),
    "hash": (lambda x: torch.frac(torch.sin(12345 * x) * 43758.5), "warn"),
    "smooth hash": (lambda x: torch.sin(4e5 * x.sum((1, 2, 3), keepdim=True) + 1e3 * x), "warn"),
    "a seed of each image": (seeded, "warn"),
}


class Net(nn.Module):
    def __init__(self, noise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.noise, self.first, self.last = noise, nn.Linear(36, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        current, v, out = self.first((x + self.noise(x)).flatten(1)), 0.0, torch.zeros(1)
        for _ in range(4):
            v = 0.5 * v + 3 * current
            spikes = Fire.apply(v - 1)
            v, out = v * (1 - spikes), out + self.last(spikes)
        return out


@pytest.mark.parametrize("name", NOISES)
def test_a_hash_of_the_image_is_noise(name: str) -> None:
    noise, status = NOISES[name]
    victim = adapt(Net(noise), images=IMAGES, random=name == "drawn")
    assert hidden_noise(victim, IMAGES, LABELS).status == status
