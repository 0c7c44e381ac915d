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


class NormSpike(nn.Module):
    """Batch norm over time and batch, then spiking neurons.

    Args:
        norm: The normalisation of the currents.
        neuron: The spiking layer.
        steps: Time steps that a constant current `[1, B, ...]` is presented for.
    """

    def __init__(self, norm: nn.BatchNorm2d, neuron: nn.Module, steps: int) -> None:
        super().__init__()
        self.norm = norm
        self.neuron = neuron
        self.steps = steps

    def forward(self, current: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` or `[1, B, C, H, W]` to spikes `[T, B, C, H, W]`."""
        steps = self.steps if current.shape[0] == 1 else current.shape[0]
        if _fused.get() and not self.norm.training:
            return self.neuron(current, steps=steps, affine=_affine(self.norm))
        return self.neuron(over_time(self.norm, current), steps=steps)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and shift, each `[C]`, that batch norm applies in eval mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
