"""Layers that carry the time axis `[T, B, C, H, W]` through a spiking backbone."""

from __future__ import annotations

import torch
from timm.layers import to_2tuple
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor, nn

from robust_snn.kernels import can_convolve, convolve
from robust_snn.kernels.convolution.constant_gradients import Fork, WeightedSum, unread_input
from robust_snn.neurons import (
    DLIF,
    LIF,
    EvolvingLeakLIF,
    HomeostaticLIF,
    IntegerLIF,
    NoisyLIF,
    NormSpike,
    PoissonEncoder,
    RandomLeakLIF,
    StochasticGate,
    TimeBatchNorm2d,
    current_settings,
    each_step,
)
from robust_snn.utils.exporting import differentiable

_NEURONS = (LIF, DLIF, NoisyLIF, EvolvingLeakLIF, HomeostaticLIF, IntegerLIF, RandomLeakLIF)
for _module in (*_NEURONS, NormSpike, TimeBatchNorm2d, StochasticGate, PoissonEncoder):
    register_notrace_module(_module)


class TimeConv2d(nn.Conv2d):
    """Convolution of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        settings = current_settings()
        if settings.sparse is not None and can_convolve(self):
            return convolve(x, self, settings.sparse, settings.constants.weights.get(self))
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeAvgPool2d(nn.AvgPool2d):
    """Average pooling of every step of `[T, B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return each_step(x, self._pool, self._spread)

    def _pool(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        spread: Tensor = torch.ops.aten.avg_pool2d_backward(
            gradient,
            unread_input(gradient, shape),
            to_2tuple(self.kernel_size),
            to_2tuple(self.stride),
            to_2tuple(self.padding),
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
        return spread


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
class Spike(nn.Module):
    """Spiking neurons on a current that is summed up already.

    Args:
        neuron: The neurons.
        steps: Time steps that a constant current `[1, B, ...]` is presented for.
    """

    def __init__(self, neuron: nn.Module, steps: int) -> None:
        super().__init__()
        self.neuron = neuron
        self.steps = steps

    def forward(self, current: Tensor) -> Tensor:
        """Maps currents `[T, B, ...]` or `[1, B, ...]` to spikes `[T, B, ...]`."""
        spikes: Tensor = self.neuron(current, steps=self.steps if len(current) == 1 else None)
        return spikes


@register_notrace_module
class SimplexSum(nn.Module):
    """Weighted sum of two branches; the weights lie on the simplex (SNN-RAT, NeurIPS 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape or a.dtype != b.dtype:  # such as a constant current and a varying one
            return self.weight[0] * a + self.weight[1] * b
        out: Tensor = differentiable(WeightedSum, a, b, self.weight)
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
    if not torch.is_grad_enabled() or not isinstance(x, Tensor):  # such as bounds of a tensor
        return x, x
    branches: tuple[Tensor, Tensor] = differentiable(Fork, x)
    return branches
