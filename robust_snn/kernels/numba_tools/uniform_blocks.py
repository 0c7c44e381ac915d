"""Uniform draws of a layer, bit for bit those of `robust_snn.kernels.philox.draw_uniform`."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.shares import run_shares
from robust_snn.kernels.numba_tools.threads import run_blocks
from robust_snn.kernels.philox import Purpose
from robust_snn.kernels.spiking.numba.philox import SPARE, philox_quad

BLOCK = 4096  # neurons
DEAR = 10  # times what it costs to pass over a value, at least
_UNIT = np.float32(2.0**-24)


@kernel
def uniform_draws(shares, tasks, arguments, sources=SOURCES):
    """Draws of any layer; the arguments are those of `_drawn_blocks`."""
    return run_shares(_drawn_blocks, shares, tasks, arguments)


@helper
def _drawn_blocks(start, stop, keys, layer, purpose, out):
    """Fills `out`, float32 `[T, B, N]`, for the keys, int64 `[B]`."""
    T, B, N = out.shape
    words, numbers = np.empty((4, BLOCK + SPARE), np.uint32), np.empty(BLOCK + SPARE, np.uint32)
    for task in range(start, stop):
        b, first = task % B, task // B * BLOCK
        n = min(BLOCK, N - first)
        for j in range(n + SPARE):
            numbers[j] = first + j
        for t in range(T):
            if t % 4 == 0:
                philox_quad(keys[b], numbers[: n + SPARE], t // 4, layer, purpose, words)
            for j in range(n):
                out[t, b, first + j] = np.float32(words[t % 4, j]) * _UNIT


def run_draws(
    keys: Tensor, shape: tuple[int, ...], steps: int, layer: int, purpose: Purpose
) -> Tensor:
    """Draws in [0, 1), float32 `[T, B, *shape]`, for keys `[B]` in memory."""
    out = torch.empty(steps, len(keys), torch.Size(shape).numel())
    blocks = len(keys) * -(-out.shape[2] // BLOCK)
    given = keys.contiguous().numpy(), np.uint32(layer), np.uint32(purpose)
    run_blocks(uniform_draws, blocks, DEAR * out.numel(), *given, out.numpy())
    return out.reshape(steps, len(keys), *shape)
