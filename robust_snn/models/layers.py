"""Layers that carry the time axis `[T, B, C, H, W]` through a spiking backbone."""

from __future__ import annotations

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.errors import InputError
from robust_snn.neurons import LIF, NormSpike, StochasticGate, over_time

# Statistics of CIFAR-10, as the three papers use them; other channel counts take their mean.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

# Firing rate of a spiking layer whose currents have zero mean and unit variance.
RATE = 0.15

for _neuron in (LIF, NormSpike, StochasticGate):
    register_notrace_module(_neuron)


@register_notrace_module
class DirectEncoding(nn.Module):
    """Normalises images in [0, 1] and gives them a time axis.

    A static image becomes one step `[1, B, C, H, W]`, which the first spiking layer presents at
    every time step, so everything before that layer runs once. Event frames keep their steps.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_chans: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        mean = mean or (MEAN if in_chans == 3 else (sum(MEAN) / 3,) * in_chans)
        std = std or (STD if in_chans == 3 else (sum(STD) / 3,) * in_chans)
        if not len(mean) == len(std) == in_chans:
            raise InputError(
                f"mean and std need one number per channel: {in_chans}, got {len(mean)}, {len(std)}"
            )
        self.in_chans = in_chans
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, C, H, W]` to `[1, B, C, H, W]`, or `[B, T, C, H, W]` to `[T, B, C, H, W]`."""
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_chans:
            raise InputError(
                f"expected images [B, {self.in_chans}, H, W] or event frames "
                f"[B, T, {self.in_chans}, H, W], got {tuple(x.shape)}"
            )
        x = (x - self.mean) / self.std
        return x.unsqueeze(0) if x.dim() == 4 else x.transpose(0, 1)


class TimeConv2d(nn.Conv2d):
    """Convolution of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeAvgPool2d(nn.AvgPool2d):
    """Average pooling of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ConvSpike(nn.Module):
    """3x3 convolution, batch norm, spiking neurons."""

    def __init__(self, in_chans: int, out_chans: int, neuron: nn.Module, T: int) -> None:
        super().__init__()
        self.conv = TimeConv2d(in_chans, out_chans, kernel_size=3, padding=1)
        self.act = NormSpike(nn.BatchNorm2d(out_chans), neuron, T)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[T, B, C, H, W]` to spikes `[T, B, out_chans, H, W]`."""
        return self.act(self.conv(x))


class SimplexSum(nn.Module):
    """Weighted sum of two branches; the weights lie on the simplex (SNN-RAT, NeurIPS 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.weight[0] * a + self.weight[1] * b

    def clamp_(self) -> None:
        """Projects the weights onto the simplex after an optimiser step (Euclidean distance)."""
        with torch.no_grad():
            first = (1 + self.weight[0] - self.weight[1]) / 2
            self.weight[0] = first.clamp(0, 1)
            self.weight[1] = 1 - self.weight[0]


class MeanPool(nn.Module):
    """Mean over time and space: `[T, B, C, H, W]` to `[B, C]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0).mean((-2, -1))


@register_notrace_module
class SpikingMLP(nn.Module):
    """Two hidden spiking layers, read out as their firing rate.

    Args:
        in_chans: Channels of the features.
        grid: Height and width that the weights expect; other sizes are pooled to it.
        width: Neurons per hidden layer.
        neurons: The two spiking layers.
        T: Time steps that constant features `[1, B, C, H, W]` are presented for.
    """

    def __init__(
        self,
        in_chans: int,
        grid: tuple[int, int],
        width: int,
        neurons: tuple[nn.Module, nn.Module],
        T: int,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.steps = T
        self.fc1 = nn.Linear(in_chans * grid[0] * grid[1], width)
        self.neuron1 = neurons[0]
        self.fc2 = nn.Linear(width, width)
        self.neuron2 = neurons[1]

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[T, B, C, H, W]` to the rates of the second layer, `[B, width]`."""
        if x.shape[-2:] != self.grid:
            x = over_time(nn.AdaptiveAvgPool2d(self.grid), x)
        steps = self.steps if x.shape[0] == 1 else x.shape[0]
        hidden = self.neuron1(self.fc1(x.flatten(2)), steps=steps)
        return self.neuron2(self.fc2(hidden)).mean(0)


def init_weights(module: nn.Module) -> None:
    """Normal weights that keep currents near unit variance when `RATE` of the inputs spike.

    A deep spiking network then fires in every layer before any training, also while batch norm
    still has its initial statistics; He initialisation, made for ReLU, leaves it silent.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        fan_in = module.weight[0].numel()
        nn.init.normal_(module.weight, std=(RATE * fan_in) ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
