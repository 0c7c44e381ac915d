"""From maps to the products of their heads, shared out to threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.attention.numba.products import HeadMatrix, head_products
from robust_snn.kernels.attention.numba.tiles import TILE_COLUMNS
from robust_snn.kernels.attention.reference import matrices, values_first
from robust_snn.kernels.numba_tools.threads import run_blocks

LEAST = 1 << 17  # queries, below which a call costs more than it saves
DEAR = 8  # multiplications in the time of a pass over a value


def pays(q: Tensor) -> bool:
    """Whether the kernel is the faster one: of much in float32, whose tokens fill a tile.

    oneDNN multiplies in half precision faster than the bits of spikes are counted, and PyTorch's
    products read maps whose channels lie last as they are.
    """
    plain = q.dtype == torch.float32 and q.is_contiguous()
    return plain and q.numel() >= LEAST and q.shape[3:].numel() >= TILE_COLUMNS


def run_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float, keeps: bool
) -> tuple[Tensor, Tensor]:
    """`scale * (q k^T) v` per head of `[T, B, C, ...]`; if it `keeps`, with its first product.

    Products of what is no spike are PyTorch's.
    """
    given = q.detach().float(), k.detach().float(), v.detach().float()
    queries, keys, values = (matrices(x.contiguous(), heads) for x in given)
    of_values = values_first(queries, values)
    found = _counted(queries, keys, values, scale, keeps, of_values)
    if found is None:
        mixed = values @ keys.mT if of_values else keys.mT @ queries
        out = (mixed @ queries if of_values else values @ mixed) * scale
    else:
        out, mixed = found
    return out.reshape(v.shape).to(v.dtype), mixed


def _counted(
    queries: Tensor, keys: Tensor, values: Tensor, scale: float, keeps: bool, of_values: bool
) -> tuple[Tensor, Tensor] | None:
    """The same of `[T, B, heads, channels, N]` by counts; None where not all counted are spikes."""
    out = torch.empty_like(values)
    lead, (width, tokens), wide = queries.shape[:3], queries.shape[3:], values.shape[3]
    shape = (wide, width) if of_values else (tokens, tokens)
    mixed = values.new_empty(*lead, *shape) if keeps else values.new_empty(0)
    odd = np.zeros(1, np.uint8)
    q, k, v, result = (
        HeadMatrix(x.numpy().reshape(-1), *x.shape[3:]) for x in (queries, keys, values, out)
    )
    heads = lead.numel()
    run_blocks(
        head_products, heads, heads * wide * shape[1] * tokens // DEAR,
        np.float32(scale), of_values, q, k, v, result, mixed.numpy().reshape(-1), odd,
    )  # fmt: skip
    return None if odd[0] else (out, mixed)
