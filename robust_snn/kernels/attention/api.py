"""The public attention of spikes: checks its arguments and picks the backend that runs it.

Attention without softmax is linear in queries, in keys and in values. So the gradient on each is
again an attention, of the other two and the gradient that arrives, and the same kernel gives it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from robust_snn.kernels.attention.reference import reference_attention, reference_gradients
from robust_snn.kernels.backend import choose_backend, ready_to_launch
from robust_snn.utils.errors import InputError

MOST_CHANNELS = 128  # of a head in Triton's kernel, which has them all in registers


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float = 1.0, *, backend: str = "auto"
) -> Tensor:
    """`scale * (q k^T) v` of the tokens of each head, on maps as they lie in memory.

    Of spikes the result is exact, a sum of integers that is rounded once, as long as
    `N * N * C / heads` is below 2^24 for `N` tokens. The reference multiplies half precision as
    PyTorch does, kernels in float32.

    Args:
        q: Queries `[T, B, C, ...]`, such as maps `[T, B, C, H, W]` whose places are tokens.
        k: Keys of the same shape.
        v: Values `[T, B, values, ...]`, in the type of the queries.
        heads: They share the channels, in order.
        scale: Factor on the result.
        backend: `"auto"`, `"triton"` (GPU), `"numba"` (CPU) or `"torch"` (anywhere). `"auto"` is
            Triton for GPU tensors and, where it is faster, Numba for CPU tensors. The PyTorch
            reference runs whatever neither can: float64, other devices, heads of more than
            `MOST_CHANNELS` channels on GPUs, what is not 0 or 1 on CPUs, and networks that PyTorch
            compiles, records or transforms.

    Returns:
        `[T, B, values, ...]`. Compiled backends keep the memory layout of the queries.

    Raises:
        InputError: If shapes do not fit or the device has no such backend.
    """
    _check_shapes(q, k, v, heads)
    chosen = choose_backend(backend, q, k, v)
    if chosen == "torch" or not _takes(chosen, q, k, v, heads, forced=backend != "auto"):
        return reference_attention(q, k, v, heads, scale)
    function = _TritonAttention if chosen == "triton" else _NumbaAttention
    out: Tensor = function.apply(q, k, v, heads, scale)
    return out


class _NumbaAttention(torch.autograd.Function):
    """Counts of spikes forward, products of floats backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
        ctx.heads, ctx.scale = heads, scale
        keeps = any(ctx.needs_input_grad)
        with ready_to_launch("numba", q):
            out, mixed = _kernels("numba").run_attention(q, k, v, heads, scale, keeps)
        ctx.save_for_backward(q, k, v, mixed)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mixed = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of this one needs to see all products
            return _gradients(_NumbaAttention, ctx, upstream[0], q, k, v)
        on_each = reference_gradients(upstream[0], q, k, v, ctx.heads, ctx.scale, mixed)
        return *on_each, None, None


class _TritonAttention(torch.autograd.Function):
    """One launch forward, and one for each gradient."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.heads, ctx.scale = heads, scale
        with ready_to_launch("triton", q):
            out: Tensor = _kernels("triton").run_attention(q, k, v, heads, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(_TritonAttention, ctx, upstream[0], *ctx.saved_tensors)


def _gradients(
    function: Any, ctx: Any, gradient: Tensor, q: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients as attention themselves, which differentiates as often as one likes."""
    factors = (gradient, v, k), (v, gradient, q), (k, q, gradient)
    on_each = (
        function.apply(*each, ctx.heads, ctx.scale) if needed else None
        for each, needed in zip(factors, ctx.needs_input_grad, strict=False)
    )
    return *on_each, None, None


@cache
def _kernels(backend: str) -> Any:
    """The kernels of a backend; importing their compiler takes a second, so not before."""
    return import_module(f"robust_snn.kernels.attention.{backend}")


def _takes(backend: str, q: Tensor, k: Tensor, v: Tensor, heads: int, forced: bool) -> bool:
    """Whether a compiled backend takes these tensors; on CPUs, if it is the faster one."""
    followed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if followed or type(q) is not Tensor or forward_ad._current_level >= 0:
        return False
    if not q.dtype == k.dtype == v.dtype or q.numel() == 0 or v.numel() == 0:
        return False
    if backend == "triton":
        return max(q.shape[2], v.shape[2]) <= heads * MOST_CHANNELS
    return forced or bool(_kernels("numba").pays(q))


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, heads: int) -> None:
    fits = (
        q.dim() > 3
        and q.shape == k.shape
        and q.shape[:2] + q.shape[3:] == (v.shape[:2] + v.shape[3:])
    )
    if not fits:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise InputError(
            "attention takes queries and keys [T, B, C, ...] and values of as many tokens "
            f"[T, B, values, ...], got {shapes}"
        )
    if heads < 1 or q.shape[2] % heads or v.shape[2] % heads:
        raise InputError(
            f"{heads} heads cannot share {q.shape[2]} channels of queries and {v.shape[2]} of "
            "values evenly"
        )
