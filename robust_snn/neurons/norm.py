"""Batch norm in front of a spiking layer, as a module that can run inside the spiking kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robust_snn.kernels.convolution.constant_gradients import EachStep, unread_input
from robust_snn.neurons.pass_settings import current_settings


def over_time(module: nn.Module, x: Tensor) -> Tensor:
    """Applies a module for `[B, ...]` to every step of `[T, B, ...]`."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def each_step(
    x: Tensor,
    run: Callable[[Tensor], Tensor],
    pull: Callable[[Tensor, torch.Size], Tensor],
) -> Tensor:
    """`run(x)`, a linear map of every step; in attacks, with the gradient of `EachStep`."""
    if current_settings().sparse is None or torch.compiler.is_compiling():
        return run(x)
    out: Tensor = EachStep.apply(x, run, pull)
    return out


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, because every process uses the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group, total = group, x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        total = upstream[0].contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class TimeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of `[T, B, C, H, W]` with statistics over time, batch and space.

    In several training processes, the batch is that of all of them together.

    Args:
        channels: Number of channels.
        scale: Initial weight. Threshold-dependent batch norm (tdBN, AAAI 2021) is
            `scale = threshold / sqrt(n)` for a current that is the sum of `n` branches.

    Attributes:
        process_group: The processes that share a batch; all of them if None.
    """

    process_group: Any = None

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__(channels)
        nn.init.constant_(self.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self._processes() > 1:
            return self._shared(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.training or self.weight.requires_grad:
            return self._normalise(x)
        return each_step(x, self._normalise, self._scale)

    def _normalise(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _scale(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient on the input in eval mode, whose scale does not depend on it."""
        if torch.is_grad_enabled():
            return gradient * self.affine_map()[0].view(-1, 1, 1)
        unmeasured = gradient.new_empty(0)  # statistics of the batch, which eval mode has none of
        scaled: Tensor = torch.ops.aten.native_batch_norm_backward(
            gradient,
            unread_input(gradient, shape),
            self.weight,
            self.running_mean,
            self.running_var,
            unmeasured,
            unmeasured,
            False,
            self.eps,
            (True, False, False),
        )[0]
        return scaled

    def _processes(self) -> int:
        there = dist.is_available() and dist.is_initialized()
        return dist.get_world_size(self.process_group) if there else 1

    def _shared(self, x: Tensor) -> Tensor:
        """The norm in train mode with the statistics of all processes; their parts are equal."""
        count = x.numel() // x.shape[1] * self._processes()
        mean = _Sum.apply(x.sum((0, 2, 3)), self.process_group) / count
        centred = x - mean.view(-1, 1, 1)
        squares = centred.square().sum((0, 2, 3))
        variance = _Sum.apply(squares, self.process_group) / count
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(-1, 1, 1) + self.bias.view(-1, 1, 1)

    def affine_map(self) -> tuple[Tensor, Tensor]:
        """The scale and shift, each `[C]`, that it applies in eval mode."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


class KeepsTimeNorms(nn.Module):
    """A module whose `TimeBatchNorm2d` `SyncBatchNorm.convert_sync_batchnorm` leaves in place.

    They share their statistics between processes themselves; a `SyncBatchNorm` would read images
    for channels.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        norm = self._modules.get(name)
        if isinstance(norm, TimeBatchNorm2d) and isinstance(module, nn.SyncBatchNorm):
            norm.process_group = module.process_group
        else:
            super().add_module(name, module)


class NormSpike(KeepsTimeNorms):
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
        settings, heard = current_settings(), self.norm._forward_hooks
        if settings.fused_norm and not self.norm.training and not heard:
            affine = settings.constants.affine.get(self.norm) or self.norm.affine_map()
            return self.neuron(current, steps=steps, affine=affine)
        return self.neuron(self.norm(current), steps=steps)
