"""Event-driven convolution on the CPU: a sum of weight rows over the inputs that spiked.

The spikes of an image row become a list of events, ordered by pixel and channel. Weights lie as
`[block of outputs, h, w, channel, output]`, so for one row of the kernel the events under it are
one stretch of that list, and each event's weights are one row of `WIDTH` floats. The sums of an
output pixel stay in vector registers from the first event to the last.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from robust_snn.kernels.numba_tools.compile import helper, kernel
from robust_snn.kernels.numba_tools.threads import run_blocks

LANES, VECTORS = 16, 4
WIDTH = LANES * VECTORS  # output channels at a time: a row of weights is four cache lines
BYTE = 8  # input channels that are tested at a time
PIXELS = 256  # of a task at least, so that the weights of a block are read again from the cache

# The positions of the ones of every byte, then zeros, and their number.
_PLACES = np.zeros((256, BYTE), np.int32)
for _byte in range(256):
    _ones = [_bit for _bit in range(BYTE) if _byte >> _bit & 1]
    _PLACES[_byte, : len(_ones)] = np.array(_ones, np.int32) * WIDTH
_COUNTS = np.array([bin(_byte).count("1") for _byte in range(256)], np.int32)
_GATHER = np.uint64(0x0102040810204080)  # brings the lowest bits of eight bytes into the top byte


class ConvolutionSizes(NamedTuple):
    """Sizes of a convolution; `channels` is rounded up to whole bytes."""

    height: int
    width: int
    channels: int
    rows: int  # of the kernel
    columns: int
    stride: int
    padding: int
    out_height: int
    out_width: int


def _data(context, builder, signature, arguments, *indices):
    """The pointers of array arguments."""
    for index in indices:
        array = context.make_array(signature.args[index])
        yield array(context, builder, arguments[index]).data


def _vector_at(builder, pointer, offset, lanes):
    vector = ir.VectorType(pointer.type.pointee, lanes)
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def _copier(lanes):
    @intrinsic
    def copy(typing, source, at, amount, target, to):
        """`target[to : to + lanes] = source[at : at + lanes] + amount`, as one vector."""

        def generate(context, builder, signature, arguments):
            source, target = _data(context, builder, signature, arguments, 0, 3)
            values = builder.load(_vector_at(builder, source, arguments[1], lanes), align=4)
            same = ir.VectorType(values.type.element, lanes)(ir.Undefined)
            for lane in range(lanes):
                same = builder.insert_element(same, arguments[2], ir.IntType(32)(lane))
            there = _vector_at(builder, target, arguments[4], lanes)
            builder.store(builder.add(values, same), there, align=4)
            return context.get_dummy_value()

        return types.void(source, types.intp, types.int32, target, types.intp), generate

    return copy


_copy_byte, _copy_run = _copier(BYTE), _copier(LANES)


@intrinsic
def _sum_rows(typing, weights, rows, count, bias, out, place):
    """`out[place : place + WIDTH] = bias + sum of weights[row : row + WIDTH]` over `rows`.

    Vectors are spelled out: by itself LLVM keeps no sums in registers over a loop of this kind.
    """

    def generate(context, builder, signature, arguments):
        pointers = _data(context, builder, signature, arguments, 0, 1, 3, 4)
        weights, rows, bias, out = pointers
        word = ir.IntType(64)

        def lanes(pointer, offset, v):
            return _vector_at(builder, pointer, builder.add(offset, word(v * LANES)), LANES)

        sums = []
        for v in range(VECTORS):
            first = builder.load(lanes(bias, word(0), v), align=4)
            sums.append(cgutils.alloca_once_value(builder, first))
        with cgutils.for_range(builder, arguments[2]) as loop:
            row = builder.sext(builder.load(builder.gep(rows, [loop.index])), word)
            for v, total in enumerate(sums):
                weight = builder.load(lanes(weights, row, v), align=4)
                builder.store(builder.fadd(builder.load(total), weight), total)
        for v, total in enumerate(sums):
            builder.store(builder.load(total), lanes(out, arguments[5], v), align=4)
        return context.get_dummy_value()

    return types.void(weights, rows, types.intp, bias, out, types.intp), generate


@helper
def _pack(values, one, packed):
    """One byte per value; returns whether one of them is neither 0 nor 1."""
    odd = np.uint8(0)
    for c in range(values.size):
        active = np.uint8(values[c] != 0)
        packed[c] = active
        odd |= active & np.uint8(values[c] != one)
    return odd


@kernel
def sum_event_weights(
    start,
    stop,
    group,  # images per task
    shape,
    spikes,  # [images, height * width, channels as given], zeros and ones
    one,  # in the type of the spikes, bit patterns for half precision
    weights,  # float32 [blocks, rows * columns * channels * WIDTH]
    bias,  # float32 [blocks, WIDTH]
    places,
    counts,
    out,  # float32 [images, out_height * out_width, outputs]
    odd,  # uint8 [tasks]: set where a value is neither 0 nor 1
):
    pixels, C, outputs = shape.height * shape.width, shape.channels, out.shape[2]
    words = C // BYTE
    packed = np.zeros(C, np.uint8)
    as_words = packed.view(np.uint64)
    events = np.empty((group, pixels * C + LANES), np.int32)
    firsts = np.empty((group, pixels + 1), np.int64)
    rows = np.empty(shape.rows * shape.columns * C + LANES, np.int32)
    partial = np.empty(WIDTH, np.float32)
    for task in range(start, stop):
        images = min(group, spikes.shape[0] - task * group)
        for i in range(images):
            image = spikes[task * group + i]
            n, pixel = 0, 0
            for _ in range(shape.height):
                base = np.int32(0)
                for _ in range(shape.width):
                    firsts[i, pixel] = n
                    odd[task] |= _pack(image[pixel], one, packed)
                    for word in range(words):
                        byte = (as_words[word] * _GATHER) >> np.uint64(56)
                        _copy_byte(places[byte], 0, base, events[i], n)
                        n += counts[byte]
                        base += np.int32(BYTE * WIDTH)
                    pixel += 1
            firsts[i, pixel] = n
        for block in range(weights.shape[0]):
            left = min(WIDTH, outputs - block * WIDTH)
            for i in range(images):
                image_out = out[task * group + i]
                for y in range(shape.out_height):
                    for x in range(shape.out_width):
                        x0 = x * shape.stride - shape.padding
                        low = min(max(x0, 0), shape.width)
                        high = max(min(x0 + shape.columns, shape.width), low)
                        count = 0
                        for row in range(shape.rows):
                            at = y * shape.stride - shape.padding + row
                            if at >= 0 and at < shape.height:
                                first = firsts[i, at * shape.width + low]
                                last = firsts[i, at * shape.width + high]
                                shift = np.int32((row * shape.columns - x0) * C * WIDTH)
                                for k in range(first, last, LANES):
                                    _copy_run(events[i], k, shift, rows, count + k - first)
                                count += last - first
                        pixel = image_out[y * shape.out_width + x]
                        if left == WIDTH:
                            place = block * WIDTH
                            _sum_rows(weights[block], rows, count, bias[block], pixel, place)
                        else:
                            _sum_rows(weights[block], rows, count, bias[block], partial, 0)
                            for k in range(left):
                                pixel[block * WIDTH + k] = partial[k]


def event_driven_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> Tensor | None:
    """Convolves spikes, in time that grows with how many there are.

    Args:
        x: Zeros and ones `[B, C, H, W]`, any dtype.
        weight: `[out, C, h, w]`.
        bias: `[out]`.
        stride: The same along both axes.
        padding: Zeros on every side.

    Returns:
        `[B, out, H', W']`, channels-last in memory, or None if a value of `x` is neither 0 nor 1.
    """
    images, given, height, width = x.shape
    outputs, _, rows, columns = weight.shape
    shape = ConvolutionSizes(
        height,
        width,
        -(-given // BYTE) * BYTE,
        rows,
        columns,
        stride,
        padding,
        (height + 2 * padding - rows) // stride + 1,
        (width + 2 * padding - columns) // stride + 1,
    )
    blocks = -(-outputs // WIDTH)
    table = torch.zeros(blocks * WIDTH, rows, columns, shape.channels)
    table[:outputs, ..., :given] = weight.permute(0, 2, 3, 1)
    table = table.view(blocks, WIDTH, -1).transpose(1, 2).contiguous()
    start = torch.zeros(blocks * WIDTH)
    if bias is not None:
        start[:outputs] = bias
    spikes = x.permute(0, 2, 3, 1).contiguous().view(images, height * width, given)
    one = torch.ones((), dtype=x.dtype)
    if x.dtype in (torch.bfloat16, torch.float16):
        spikes, one = spikes.view(torch.int16), one.view(torch.int16)
    out = torch.empty(images, shape.out_height * shape.out_width, outputs)
    group = max(1, PIXELS // (height * width))
    tasks = -(-images // group)
    odd = np.zeros(tasks, np.uint8)
    run_blocks(
        sum_event_weights,
        tasks,
        group,
        shape,
        spikes.numpy(),
        one.numpy()[()],
        table.view(blocks, -1).numpy(),
        start.view(blocks, WIDTH).numpy(),
        _PLACES,
        _COUNTS,
        out.numpy(),
        odd,
    )
    if odd.any():
        return None
    out = out.view(images, shape.out_height, shape.out_width, outputs).permute(0, 3, 1, 2)
    return out.to(weight.dtype)
