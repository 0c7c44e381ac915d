"""From maps to the programs of their heads."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from robust_snn.kernels.attention.triton.products import head_attention
from robust_snn.kernels.layout import is_channels_last, logical_view, storage_view
from robust_snn.kernels.spiking.triton.launch import options

LEAST = 16  # rows and columns of a product in Triton
REGISTERS = 1024  # numbers of the first product that a program keeps, where heads are narrow
_WARP = 64 if torch.version.hip else 32
TOKENS = 32  # that are read at once, half as many in wide heads


def constants(width: int, wide: int, last: bool) -> dict[str, Any]:
    """Compile-time constants for heads of so many channels, and of values."""
    channels = max(LEAST, triton.next_power_of_2(width))
    values = min(max(LEAST, triton.next_power_of_2(wide)), max(LEAST, REGISTERS // channels))
    tokens = TOKENS if channels <= 64 else TOKENS // 2
    return {"LAST": last, "WIDTH": channels, "VALUES": values, "TOKENS": tokens}


def run_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """`scale * (q k^T) v` per head of `[T, B, C, ...]`, in the layout of `q`."""
    last = is_channels_last(q)
    queries, keys, values = (storage_view(x.detach(), last) for x in (q, k, v))
    out, tokens = torch.empty_like(values), q.shape[3:].numel()
    width, wide = q.shape[2] // heads, v.shape[2] // heads
    chosen = constants(width, wide, last)
    programs = q.shape[0] * q.shape[1] * heads * triton.cdiv(wide, chosen["VALUES"])
    head_attention[(programs,)](
        queries, keys, values, out, scale, heads, width, wide, tokens, **chosen, **options(_WARP)
    )
    return logical_view(out, last)
