"""Attention of one head after the other: both of its products, and the scale.

A head is a matrix `[channels, tokens]`, as it lies in a map.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robust_snn.kernels.attention.numba.bit_counts import (
    WORD,
    count_pairs,
    pack_columns,
    pack_rows,
)
from robust_snn.kernels.attention.numba.tiles import TILE_COLUMNS, TILE_ROWS, multiply
from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.shares import run_shares


class HeadMatrix(NamedTuple):
    """A matrix of each head, one after the other in flat float32 memory."""

    values: np.ndarray
    channels: int
    tokens: int


@helper
def _products(start, stop, scale, of_values, q, k, v, out, kept, odd):
    width, tokens, wide = q.channels, q.tokens, v.channels
    if of_values:  # values k^T counts tokens, then come queries
        rows, columns, summed = wide, width, tokens
    else:  # k^T q counts channels, and values come first
        rows, columns, summed = tokens, tokens, width
    words = -(-summed // WORD)
    mine, others = np.empty((words, rows), np.uint32), np.empty((words, columns), np.uint32)
    edge = np.zeros(columns * TILE_COLUMNS, np.float32)
    tile = np.zeros(TILE_ROWS * TILE_COLUMNS, np.float32)
    mixed = np.empty((rows, columns), np.float32)
    counts, size = mixed.reshape(-1), rows * columns
    for head in range(start, stop):
        at, at_wide = head * width * tokens, head * wide * tokens
        if of_values:
            spikes = pack_rows(v.values, at_wide, tokens, wide, tokens, mine)
            spikes = spikes and pack_rows(k.values, at, tokens, width, tokens, others)
        else:
            spikes = pack_columns(k.values, at, tokens, width, tokens, mine)
            spikes = spikes and pack_columns(q.values, at, tokens, width, tokens, others)
        if not spikes:
            odd[0] = 1
            return
        count_pairs(mine, others, mixed)
        if kept.size > 0:
            kept[head * size : (head + 1) * size] = counts
        left, right = (v.values, at_wide, tokens), (counts, 0, columns)
        if of_values:
            left, right = (counts, 0, columns), (q.values, at, tokens)
        sizes, to = (wide, columns, tokens), (out.values, at_wide, tokens)
        multiply(left, right, sizes, scale, edge, tile, to)


@kernel
def head_products(shares, tasks, arguments, sources=SOURCES):
    """The products of all heads; the arguments are those of `_products`."""
    return run_shares(_products, shares, tasks, arguments)
