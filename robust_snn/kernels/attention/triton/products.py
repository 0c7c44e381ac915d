"""Attention of one head and some of its values by one program."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(maps, channels, tokens, channel_step, token_step, width, count):
    """A block `[channels, tokens]` of a head as float32; zeros beyond it."""
    places = channels[:, None] * channel_step + tokens[None, :] * token_step
    inside = (channels < width)[:, None] & (tokens < count)[None, :]
    return tl.load(maps + places, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def head_attention(
    q,  # [T * B, heads, width, tokens]; channels lie `channel_step` apart, tokens `token_step`
    k,
    v,  # [T * B, heads, wide, tokens], as all matrices of values
    out,
    scale,
    heads,
    width,
    wide,
    tokens,
    LAST: tl.constexpr,  # channels lie last in memory
    WIDTH: tl.constexpr,  # `width` in whole blocks
    VALUES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    blocks = tl.cdiv(wide, VALUES)
    program = tl.program_id(0)
    head = (program // blocks) % heads
    sample = (program // blocks // heads).to(tl.int64) * heads * tokens
    channels = tl.arange(0, WIDTH)
    values = (program % blocks) * VALUES + tl.arange(0, VALUES)
    token_step = heads * width if LAST else 1
    wide_step = heads * wide if LAST else 1
    channel_step = 1 if LAST else tokens
    at = sample * width + head * width * channel_step
    at_wide = sample * wide + head * wide * channel_step
    mixed = tl.zeros([VALUES, WIDTH], tl.float32)
    for first in range(0, tokens, TOKENS):
        some = first + tl.arange(0, TOKENS)
        keys = _load(k + at, channels, some, channel_step, token_step, width, tokens)
        mine = _load(v + at_wide, values, some, channel_step, wide_step, wide, tokens)
        mixed = tl.dot(mine, tl.trans(keys), mixed, input_precision="ieee")
    for first in range(0, tokens, TOKENS):
        some = first + tl.arange(0, TOKENS)
        queries = _load(q + at, channels, some, channel_step, token_step, width, tokens)
        result = tl.dot(mixed, queries, input_precision="ieee") * scale
        places = values[:, None] * channel_step + some[None, :] * wide_step
        inside = (values < wide)[:, None] & (some < tokens)[None, :]
        tl.store(out + at_wide + places, result.to(out.dtype.element_ty), mask=inside)
