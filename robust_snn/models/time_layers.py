"""Layers that carry the time axis `[T, B, C, H, W]` through a spiking backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor, nn

from robust_snn.kernels import convolve, in_convolution_view
from robust_snn.kernels.convolution.constant_gradients import Fork, WeightedSum
from robust_snn.neurons import (
    DLIF,
    LIF,
    NoisyLIF,
    NormSpike,
    PoissonEncoder,
    StochasticGate,
    TimeBatchNorm2d,
    over_time,
)
from robust_snn.utils.errors import InputError, unknown

# Statistics of CIFAR-10, as the three papers use them. Two channels are the polarities of events,
# which stay as they are; other channel counts take the mean of the colours.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

# Firing rate of a spiking layer whose currents have zero mean and unit variance.
RATE = 0.15

for _module in (LIF, DLIF, NoisyLIF, NormSpike, TimeBatchNorm2d, StochasticGate, PoissonEncoder):
    register_notrace_module(_module)


def default_statistics(in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per input channel."""
    if in_chans == 3:
        return MEAN, STD
    if in_chans == 2:
        return (0.0,) * 2, (1.0,) * 2
    return (sum(MEAN) / 3,) * in_chans, (sum(STD) / 3,) * in_chans


@register_notrace_module
class DirectEncoding(nn.Module):
    """Normalises images in [0, 1] and gives them a time axis.

    A static image becomes one step `[1, B, C, H, W]`, which the first spiking layer presents at
    every time step, so everything before that layer runs once. Event frames keep their steps; a
    single frame counts as a static image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_chans: int,
        steps: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        default_mean, default_std = default_statistics(in_chans)
        mean, std = mean or default_mean, std or default_std
        if not len(mean) == len(std) == in_chans:
            raise InputError(
                f"mean and std need one number per channel: {in_chans}, got {len(mean)}, {len(std)}"
            )
        self.in_chans = in_chans
        self.steps = steps
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, C, H, W]` to `[1, B, C, H, W]`, or `[B, T, C, H, W]` to `[T, B, C, H, W]`."""
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_chans:
            raise InputError(
                f"expected images [B, {self.in_chans}, H, W] or event frames "
                f"[B, T, {self.in_chans}, H, W], got {tuple(x.shape)}"
            )
        return self.encode(x.unsqueeze(0) if x.dim() == 4 else x.transpose(0, 1))

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


@register_notrace_module
class PoissonEncoding(DirectEncoding):
    """Turns images in [0, 1] into Poisson spike trains `[T, B, C, H, W]`, which are not normalised.

    The values of event frames are spiking probabilities in the same way, one draw per frame.
    """

    def __init__(
        self,
        in_chans: int,
        steps: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        if mean or std:
            raise InputError("Poisson coding samples the pixels themselves: drop mean and std")
        super().__init__(in_chans, steps)
        self.spikes = PoissonEncoder()

    def encode(self, x: Tensor) -> Tensor:
        return self.spikes(x, self.steps if x.shape[0] == 1 else x.shape[0])


class TimeConv2d(nn.Conv2d):
    """Convolution of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        if in_convolution_view(self):
            return convolve(x, self)
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeAvgPool2d(nn.AvgPool2d):
    """Average pooling of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeMaxPool2d(nn.MaxPool2d):
    """Max pooling of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ConvSpike(nn.Module):
    """Convolution that keeps the size, batch norm, spiking neurons."""

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        act: NormSpike,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = TimeConv2d(in_chans, out_chans, kernel_size, stride, padding, bias=bias)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[T, B, C, H, W]` to spikes `[T, B, out_chans, h, w]`."""
        return self.act(self.conv(x))


@register_notrace_module
class SimplexSum(nn.Module):
    """Weighted sum of two branches; the weights lie on the simplex (SNN-RAT, NeurIPS 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape or a.dtype != b.dtype:  # such as a constant current and a varying one
            return self.weight[0] * a + self.weight[1] * b
        out: Tensor = WeightedSum.apply(a, b, self.weight)
        return out

    def clamp_(self) -> None:
        """Projects the weights onto the simplex after an optimiser step (Euclidean distance)."""
        with torch.no_grad():
            first = (1 + self.weight[0] - self.weight[1]) / 2
            self.weight[0] = first.clamp(0, 1)
            self.weight[1] = 1 - self.weight[0]


@register_notrace_function
def fork(x: Tensor) -> tuple[Tensor, Tensor]:
    """The same tensor for two branches, whose gradients are added step by step only if they differ
    between steps."""
    branches: tuple[Tensor, Tensor] = Fork.apply(x)
    return branches


READOUTS = ("mean", "membrane")


@register_notrace_module
class Readout(nn.Module):
    """Takes the time axis out of spikes `[T, B, ...]`.

    The linear classifier behind it commutes with any weighting of time.

    Args:
        kind: `"mean"`, or `"membrane"` for the last potential of a neuron that leaks like the
            others and never fires, scaled so that a constant input gives the same as the mean.
        decay: Leak of that neuron.

    Raises:
        InputError: If the kind is not known.
    """

    def __init__(self, kind: Literal["mean", "membrane"], decay: float) -> None:
        super().__init__()
        if kind not in READOUTS:
            raise unknown("readout", kind, READOUTS)
        self.decay = decay if kind == "membrane" else 1.0
        self.every_step = False

    def forward(self, x: Tensor) -> Tensor:
        if self.every_step:
            return x.flatten(0, 1)
        if self.decay == 1.0:
            return x.mean(0)
        age = torch.arange(x.shape[0] - 1, -1, -1, device=x.device)
        weights = (self.decay**age).to(x.dtype)
        return torch.tensordot(weights / weights.sum(), x, dims=1)


@contextmanager
def every_step(net: nn.Module) -> Iterator[None]:
    """Inside, the network answers with the logits of every step, `[T * B, K]`, for losses such as
    TET's.

    Raises:
        InputError: If the network has no readout of this package.
    """
    readouts = [module for module in net.modules() if isinstance(module, Readout)]
    if not readouts:
        raise InputError(
            f"the logits of every step need a spiking network of this package, "
            f"got a {type(net).__name__}"
        )
    try:
        for readout in readouts:
            readout.every_step = True
        yield
    finally:
        for readout in readouts:
            readout.every_step = False


class MeanPool(nn.Module):
    """Mean over space and readout over time: `[T, B, C, H, W]` to `[B, C]`."""

    def __init__(self, readout: Readout) -> None:
        super().__init__()
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(x).mean((-2, -1))


class LinearSpike(nn.Module):
    """Linear layer, spiking neurons."""

    def __init__(self, in_features: int, out_features: int, neuron: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features)
        self.neuron = neuron

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Maps `[T, B, in_features]` to spikes `[steps, B, out_features]`."""
        return self.neuron(self.fc(x), steps=steps)


@register_notrace_module
class SpikingMLP(nn.Module):
    """Hidden spiking layers on flattened features, read out over time.

    Args:
        in_chans: Channels of the features.
        grid: Height and width that the weights expect; other sizes are pooled to it.
        widths: Neurons per hidden layer; without any, the features themselves are read out.
        neurons: The spiking layers.
        steps: Time steps that constant features `[1, B, C, H, W]` are presented for.
        readout: Takes the time axis out.
    """

    def __init__(
        self,
        in_chans: int,
        grid: tuple[int, int],
        widths: tuple[int, ...],
        neurons: list[nn.Module],
        steps: int,
        readout: Readout,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.steps = steps
        sizes = (in_chans * grid[0] * grid[1], *widths)
        self.layers = nn.ModuleList(map(LinearSpike, sizes, widths, neurons))
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[T, B, C, H, W]` to what is read out of the last layer, `[B, width]`."""
        if x.shape[-2:] != self.grid:
            x = over_time(self.pool, x)
        steps = self.steps if x.shape[0] == 1 else x.shape[0]
        x = x.flatten(2)
        for layer in self.layers:
            x = layer(x, steps)
        return self.readout(x)


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
