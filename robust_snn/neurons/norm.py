"""Batch norm in front of a spiking layer, as a module that can run inside the spiking kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_fused: ContextVar[bool] = ContextVar("fused_norm", default=False)


def norm_is_fused() -> bool:
    """Whether `fused_norm` is in force."""
    return _fused.get()


@contextmanager
def fused_norm(enabled: bool = True) -> Iterator[None]:
    """Inside, batch norms in eval mode run as an affine map in the spiking kernel.

    That saves two passes over memory and is exact up to rounding, which can move a spike.
    """
    token = _fused.set(enabled)
    try:
        yield
    finally:
        _fused.reset(token)


def over_time(module: nn.Module, x: Tensor) -> Tensor:
    """Applies a module for `[B, ...]` to every step of `[T, B, ...]`."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of `[T, B, C, H, W]` with statistics over time, batch and space.

    Args:
        channels: Number of channels.
        scale: Initial weight. Threshold-dependent batch norm (tdBN, AAAI 2021) is
            `scale = threshold / sqrt(n)` for a current that is the sum of `n` branches.
    """

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__(channels)
        nn.init.constant_(self.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def affine_map(self) -> tuple[Tensor, Tensor]:
        """The scale and shift, each `[C]`, that it applies in eval mode."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


class NormSpike(nn.Module):
    """Batch norm over time and batch, then spiking neurons.

    Args:
        norm: The normalisation of the currents.
        neuron: The spiking layer.
        steps: Time steps that a constant current `[1, B, ...]` is presented for.
    """

    def __init__(self, norm: TimeBatchNorm2d, neuron: nn.Module, steps: int) -> None:
        super().__init__()
        self.norm = norm
        self.neuron = neuron
        self.steps = steps

    def forward(self, current: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` or `[1, B, C, H, W]` to spikes `[T, B, C, H, W]`."""
        steps = self.steps if current.shape[0] == 1 else current.shape[0]
        if _fused.get() and not self.norm.training:
            return self.neuron(current, steps=steps, affine=self.norm.affine_map())
        return self.neuron(self.norm(current), steps=steps)
