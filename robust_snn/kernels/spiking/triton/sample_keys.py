"""The keys of a batch in one launch, bit for bit those of `kernels.philox.sample_keys`."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.random import philox_impl

from robust_snn.kernels.backend import ready_to_launch
from robust_snn.kernels.philox import Purpose

KEY = tl.constexpr(int(Purpose.KEY))
BLOCK = 128


@triton.jit(do_not_specialize=["seed_low", "seed_high", "draw", "call"])
def _sample_keys(ids, keys, B, seed_low, seed_high, draw, call, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < B
    number = tl.load(ids + place, mask=mask, other=0).to(tl.uint32)
    zero = number * 0
    low, high, _, _ = philox_impl(
        number,
        zero + call.to(tl.uint32),
        zero + draw.to(tl.uint32),
        zero + KEY,
        zero + seed_low.to(tl.uint32),
        zero + seed_high.to(tl.uint32),
        10,
    )
    tl.store(keys + place, low.to(tl.int64) | (high.to(tl.int64) << 32), mask=mask)


def sample_keys_on_gpu(seed: int, ids: Tensor, draw: int, call: int) -> Tensor:
    """Sample keys `[B]` of the samples `ids` `[B]`; see `sample_keys`."""
    keys = torch.empty(ids.shape, dtype=torch.int64, device=ids.device)
    if ids.numel():
        grid = (triton.cdiv(ids.numel(), BLOCK),)
        words = map(_word, (seed, seed >> 32, draw, call))
        with ready_to_launch("triton", ids):
            _sample_keys[grid](ids.contiguous(), keys, ids.numel(), *words, BLOCK=BLOCK)
    return keys


def _word(number: int) -> int:
    """The lowest 32 bits as a signed number, for which Triton has one type."""
    low = number & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low
