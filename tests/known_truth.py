"""Spiking networks whose robust accuracy in Linf is known exactly.

Every class has pixels of its own, which drive its neurons by positive weights. What is done to a
pixel before is monotone in it, or known on a grid, so that no image of the ball is worse for a
label, and better for one other class, than the one whose pixels are at their limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robust_snn.neurons import LIF

CLASSES, SIZE, STEPS, NEURONS = 4, 12, 8, 6
GRID = 201  # values of a pixel between its limits


class Grouped(nn.Module):
    """Spikes of a population for every class, whose neurons differ in gain and bias."""

    def __init__(self, before: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.before, self.neuron = before, LIF(reset="soft")
        self.owner = torch.randperm(SIZE**2, generator=rng) % CLASSES
        weights = torch.zeros(CLASSES, SIZE**2)
        weights[self.owner, torch.arange(SIZE**2)] = 0.5 + torch.rand(SIZE**2, generator=rng)
        self.register_buffer("weights", weights / weights.sum(1, keepdim=True))
        self.register_buffer("gains", torch.linspace(0.8, 1.6, NEURONS))
        self.register_buffer("biases", torch.linspace(-0.3, 0.3, NEURONS))
        self.register_buffer("first", torch.arange(CLASSES, 0, -1) * 1e-3)  # decides ties

    def forward(self, x: Tensor) -> Tensor:
        drive = self.before(x).flatten(1) @ self.weights.T
        currents = (drive[..., None] * self.gains + self.biases).flatten(1)
        spikes = self.neuron(currents.expand(STEPS, *currents.shape)).mean(0)
        return spikes.unflatten(1, (CLASSES, NEURONS)).sum(-1) + self.first


class Known(NamedTuple):
    """A network, images `[N, 1, H, W]` with labels `[N]`, and whether each of them holds."""

    net: Grouped
    images: Tensor
    labels: Tensor
    holds: Tensor


def known(before: Callable[[Tensor], Tensor], eps: float, count: int = 24) -> Known:
    """A network with something before its neurons, and the truth about its images."""
    net, rng = Grouped(before).eval(), torch.Generator().manual_seed(1)
    labels = torch.arange(count) % CLASSES
    gap = 0.02 + 0.33 * torch.rand(count, 1, generator=rng)
    own = net.owner == labels[:, None]
    noise = 0.2 * torch.rand(count, SIZE**2, generator=rng) - 0.1
    images = (0.5 + torch.where(own, gap, -gap) / 2 + noise).reshape(count, 1, SIZE, SIZE)
    return Known(net, images, labels, _holds(net, images, labels, eps))


@torch.no_grad()
def _holds(net: Grouped, x: Tensor, labels: Tensor, eps: float) -> Tensor:
    values = x + eps * torch.linspace(-1, 1, GRID).reshape(-1, 1, 1, 1, 1)
    after = net.before(values)
    low, high = (values.gather(0, at[None])[0] for at in (after.argmin(0), after.argmax(0)))
    holds = net(x).argmax(1) == labels
    for target in range(CLASSES):
        raised = (net.owner == target).reshape(x.shape[1:])
        wrong = net(torch.where(raised, high, low)).argmax(1) != labels
        holds &= ~wrong | (labels == target)
    return holds
