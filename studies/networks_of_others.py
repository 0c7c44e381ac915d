"""Two networks that are not of this package, and how their authors would train them.

One of SpikingJelly's layers, one whose neuron nobody registered: a class of its own with an
`autograd.Function`. Both train on FGSM images with their own gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robust_snn.data import ImageSet


class JellyNet(nn.Module):
    """Three convolutions with SpikingJelly's LIF, `[B, 3, H, W]` to `[B, 10]`, T = 4."""

    def __init__(self, size: int) -> None:
        super().__init__()
        widths, blocks = (3, 16, 32, 64), []
        for i in range(3):
            blocks += [
                layer.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False),
                layer.BatchNorm2d(widths[i + 1]),
                neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
                layer.AvgPool2d(2),
            ]
        self.layers = nn.Sequential(
            *blocks, layer.Flatten(), layer.Linear(64 * (size // 8) ** 2, 10)
        )
        functional.set_step_mode(self, "m")

    def forward(self, images: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.layers(images.repeat(4, 1, 1, 1, 1)).mean(0)


class Fire(torch.autograd.Function):
    """A step, whose gradient is a triangle."""

    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above >= 0).to(above)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        return upstream * (1 - above.abs()).clamp(min=0)


class OwnLIF(nn.Module):
    """Leaky integration with soft reset, one step at a call; its state is set to 0 from outside."""

    def forward(self, current: Tensor) -> Tensor:
        self.membrane = 0.5 * self.membrane + current
        spikes = Fire.apply(self.membrane - 1.0)
        self.membrane = self.membrane - spikes
        return spikes


class OwnNet(nn.Module):
    """Two convolutions and a hidden layer, `[B, 3, H, W]` to `[B, 10]`, T = 5."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), OwnLIF(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), OwnLIF(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, 128), OwnLIF(), nn.Linear(128, 10)),
        )

    def forward(self, images: Tensor) -> Tensor:
        for part in self.layers:
            if isinstance(part, OwnLIF):
                part.membrane = 0.0
        return torch.stack([self.layers(images) for _ in range(5)]).mean(0)


def trained(make: Callable[[int], nn.Module], data: ImageSet, eps: float, epochs: int) -> nn.Module:
    """A network after `epochs` of Adam on FGSM images, always the same."""
    torch.manual_seed(0)
    net = make(data.images.shape[-1]).train()
    steps = epochs * (len(data) // 128)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(128)[: len(data) // 128]:
            images, labels = data.images[rows].requires_grad_(), data.labels[rows]
            (slope,) = torch.autograd.grad(cross_entropy(net(images), labels), images)
            attacked = (images + eps * slope.sign()).clamp(0, 1).detach()
            optimizer.zero_grad()
            cross_entropy(net(attacked), labels).backward()
            optimizer.step()
            schedule.step()
    return net.eval()
