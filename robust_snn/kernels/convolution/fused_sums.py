"""Weighted sums of two branches on GPUs in one pass over memory, with the roundings of the CPU."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from robust_snn.kernels.backend import ready_to_launch

_OPTIONS = {"BLOCK": 1024, "num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _weighted_sum(a, b, weight, out, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < size
    first = tl.load(weight).to(tl.float32) * tl.load(a + place, mask=mask).to(tl.float32)
    second = tl.load(weight + 1).to(tl.float32) * tl.load(b + place, mask=mask).to(tl.float32)
    tl.store(out + place, first + second, mask=mask)


@triton.jit
def _weighted_shares(gradient, weight, on_a, on_b, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < size
    given = tl.load(gradient + place, mask=mask).to(tl.float32)
    tl.store(on_a + place, tl.load(weight).to(tl.float32) * given, mask=mask)
    tl.store(on_b + place, tl.load(weight + 1).to(tl.float32) * given, mask=mask)


def weighted_sum(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """`weight[0] * a + weight[1] * b` of two tensors that lie alike in memory."""
    out = torch.empty_like(a)
    if a.numel():
        with ready_to_launch("triton", a):
            _weighted_sum[_programs(a)](a, b, weight, out, a.numel(), **_OPTIONS)
    return out


def weighted_shares(gradient: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """`weight[0] * gradient` and `weight[1] * gradient`."""
    on_a, on_b = torch.empty_like(gradient), torch.empty_like(gradient)
    if gradient.numel():
        with ready_to_launch("triton", gradient):
            _weighted_shares[_programs(gradient)](
                gradient, weight, on_a, on_b, gradient.numel(), **_OPTIONS
            )
    return on_a, on_b


def _programs(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), _OPTIONS["BLOCK"]),)
