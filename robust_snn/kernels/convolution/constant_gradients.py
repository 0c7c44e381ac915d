"""Parts of a network over time whose gradient may be constant: forks, sums, linear maps.

The rate modes give gradients that are one step, expanded over time `[T, ...]`. They stay so here;
PyTorch's own sums, products and poolings would write every step to memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels.backend import auto_runs
from robust_snn.kernels.layout import is_channels_last, is_one_step, storage_view


class EachStep(torch.autograd.Function):
    """A map of every step of `[T, B, ...]` that is linear up to a constant.

    `apply` takes the input, `run(x)`, which maps it, and `pull(gradient, shape)`. That gives the
    gradient on inputs of a shape, `[T B, ...]` like the gradient on its results, and is called with
    those of one step where that stands for all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        run: Callable[[Tensor], Tensor],
        pull: Callable[[Tensor, torch.Size], Tensor],
    ) -> Tensor:
        ctx.shape, ctx.pull = x.shape, pull
        return run(x)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        gradient = upstream[0]
        if one_step_suffices(gradient):
            gradient = gradient[:1]
        lead, flat = gradient.shape[:2], gradient.flatten(0, 1)
        pulled = ctx.pull(flat, torch.Size((len(flat), *ctx.shape[2:])))
        return pulled.unflatten(0, lead).expand(ctx.shape), None, None


def unread_input(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Memory for an input `[T B, C, H, W]` that backward operators ask for and do not read.

    Its layout, that of the gradient `[T B, ...]`, decides the layout of what they give.
    """
    last = gradient.dim() == 4 and gradient.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout)


class Fork(torch.autograd.Function):
    """The same tensor twice; the gradients of both are added."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.view_as(x), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        first, second = upstream
        if one_step_suffices(first) and one_step_suffices(second):
            return (first[:1] + second[:1]).expand(first.shape)
        return first + second


class WeightedSum(torch.autograd.Function):
    """`weight[0] * a + weight[1] * b`, of one shape and type, in fewer passes over memory."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        kept = (a, b) if ctx.needs_input_grad[2] else ()
        ctx.save_for_backward(weight, *kept)
        if _runs_fused(a, b):
            from robust_snn.kernels.convolution.fused_sums import weighted_sum

            return weighted_sum(a, b, weight)
        return (weight[0] * a).addcmul_(b, weight[1])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, *branches = ctx.saved_tensors
        gradient, step = upstream[0], upstream[0]
        if one_step_suffices(gradient):
            step = gradient[:1]
        if _runs_fused(step) and not torch.is_grad_enabled():
            from robust_snn.kernels.convolution.fused_sums import weighted_shares

            parts: Iterable[Tensor] = weighted_shares(step, weight)
        else:
            parts = (share * step for share in weight)
        on_a, on_b = (part.expand(gradient.shape) for part in parts)
        shares = [_product(gradient, x).sum(dtype=weight.dtype) for x in branches]
        return on_a, on_b, torch.stack(shares) if shares else None


def _runs_fused(*tensors: Tensor) -> bool:
    """Whether Triton's kernels take the tensors as they lie in memory: dense, and all alike."""
    first = tensors[0]
    dense = first.is_contiguous() or is_channels_last(first)
    alike = all(x.stride() == first.stride() for x in tensors)
    return dense and alike and auto_runs("triton", first)


def _product(gradient: Tensor, x: Tensor) -> Tensor:
    """Inner products of `[T, B, ...]` as `[T, B]`."""
    last = is_channels_last(x)
    flat = (storage_view(y, last).flatten(2) for y in (gradient, x))
    return torch.einsum("tbi,tbi->tb", *flat)


def one_step_suffices(gradient: Tensor) -> bool:
    """Whether one step of `[T, B, ...]` stands for all in this backward pass.

    Where it is differentiated itself, its graph would not see that all steps were read.
    """
    return not torch.is_grad_enabled() and is_one_step(gradient)
