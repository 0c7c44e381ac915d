"""Event-driven convolution on the CPU: a sum of weight rows over the inputs that spiked.

The spikes of an image become a list of events, ordered by pixel and channel, sixteen channels by
one comparison; where the padding lies, none. From it each output pixel gets the list of the weights
that it sums, which every block of `LANES` outputs reads. Weights lie as `[block of outputs, h, w,
channel, output]`, so an event's are one row, a vector. Sums stay in registers over a panel, which
is as many places of the kernel as the first-level cache holds rows of, and come in the order of the
dense sum: row, column, channel.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg,var-annotated"
# Numba infers the types of compiled functions.
from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.large_pages import in_large_pages
from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.half_precision import bit_patterns
from robust_snn.kernels.numba_tools.shares import run_shares
from robust_snn.kernels.numba_tools.threads import run_blocks
from robust_snn.kernels.numba_tools.vectors import (
    LANES,
    ROW,
    RUN,
    TOGETHER,
    active_lanes,
    copy_eight,
    copy_run,
    put_run,
    row_summer,
)

BYTE = 8  # input channels that one step adds to the list
DEAR = 4  # times a pass over the values: lists, and sums of a few spikes
PIXELS = 512  # whose lists are made before they are read, so that weights stay in the cache
ABREAST = 4  # output pixels that are summed at once
PANEL = 768  # rows of weights: 48 KiB
_sum_rows = row_summer(ABREAST)

# Where the rows of the ones of every byte lie, then zeros, and the number of ones.
_PLACES = np.zeros((256, BYTE), np.uint16)
for _byte in range(256):
    _ones = [_bit for _bit in range(BYTE) if _byte >> _bit & 1]
    _PLACES[_byte, : len(_ones)] = np.array(_ones, np.uint16) * ROW
_COUNTS = np.array([bin(_byte).count("1") for _byte in range(256)], np.int32)
_ZERO = np.float32(0)
_FIRST_BYTE, _BYTE_BITS, _LANE_BITS = np.uint32(255), np.uint32(BYTE), np.uint32(LANES)


class ConvolutionSizes(NamedTuple):
    """Sizes of a convolution; `channels` is rounded up to whole vectors."""

    height: int
    width: int
    channels: int
    rows: int  # of the kernel
    columns: int
    stride: int
    padding: int
    out_height: int
    out_width: int

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the padding."""
        return self.height + 2 * self.padding, self.width + 2 * self.padding


class Panels(NamedTuple):
    """The places of a kernel whose weights are summed at a time.

    Attributes:
        parts: Parts of the kernel's rows by panel: the first pixel and the one behind the last,
            from the first pixel of the window on, and the entry of the first row; `[panels, parts,
            3]`, where parts that a panel lacks are empty.
        tops: Where the rows of a panel begin in the table, and their number, `[panels + 1]`; the
            last row of each is zeros.
    """

    parts: np.ndarray
    tops: np.ndarray


@helper
def _list_events(shape, image, spikes, one, places, counts, line, events, firsts, at, n):
    """Appends the spikes of an image to `events[n:]`, as entries of a row of pixels.

    Notes in `firsts[at:]` where those of each pixel begin, with the padding. Returns where they
    end, and bits, of which those above `LANES` tell that a value is neither 0 nor 1.
    """
    given, channels, padding = spikes.shape[2], shape.channels, shape.padding
    bits, flat = np.uint32(0), spikes.reshape(-1)
    for y in range(-padding, shape.height + padding):
        base = np.uint16(0)
        for x in range(-padding, shape.width + padding):
            firsts[at] = n
            at += 1
            if y >= 0 and y < shape.height and x >= 0 and x < shape.width:
                place, values = ((image * shape.height + y) * shape.width + x) * given, flat
                if given != channels:
                    for c in range(given):
                        line[c] = flat[place + c]
                    place, values = 0, line
                for c in range(0, channels, LANES):
                    active = active_lanes(values, place + c, one)
                    bits |= active
                    for byte in range(2):
                        ones = (active >> (_BYTE_BITS * np.uint32(byte))) & _FIRST_BYTE
                        shift = np.uint16(base + (c + BYTE * byte) * ROW)
                        copy_eight(places, np.intp(ones) * BYTE, shift, events, n)
                        n += counts[ones]
            base = np.uint16(base + channels * ROW)
    firsts[at] = n
    return n, bits


@helper
def _list_rows(parts, corner, left, events, firsts, entries, n):
    """Puts the rows that an output pixel sums to `entries[n:]`; returns where they end."""
    for part in range(len(parts)):
        first, last = firsts[corner + parts[part, 0]], firsts[corner + parts[part, 1]]
        shift = np.uint16(parts[part, 2] - left)
        copy_run(events, first, shift, entries, n)
        for k in range(first + RUN, last, RUN):
            copy_run(events, k, shift, entries, n + k - first)
        n += last - first
    return n


@helper
def _list_pixels(parts, zeros, corners, lefts, events, firsts, entries, ends):
    """Lists for output pixels; those of `ABREAST` are made equally long by rows of zeros."""
    n = 0
    for several in range(0, len(corners), ABREAST):
        stop, longest = min(several + ABREAST, len(corners)), 0
        for p in range(several, stop):
            count = 0
            for part in range(len(parts)):
                count += firsts[corners[p] + parts[part, 1]] - firsts[corners[p] + parts[part, 0]]
            longest = max(longest, count)
        longest = (longest + TOGETHER - 1) & -TOGETHER
        for p in range(several, several + ABREAST):
            end = n
            if p < stop:
                end = _list_rows(parts, corners[p], lefts[p], events, firsts, entries, n)
            n += longest
            for k in range(end, n, RUN):
                put_run(zeros, entries, k)
        ends[several // ABREAST + 1] = n


@helper
def _put_corners(shape, images, corners, lefts):
    """Where the window of each output pixel begins in `firsts`, and how far to the left."""
    high, wide = shape.height + 2 * shape.padding, shape.width + 2 * shape.padding
    p = 0
    for i in range(images):
        for y in range(shape.out_height):
            for x in range(shape.out_width):
                corners[p] = i * (high * wide + 1) + y * shape.stride * wide + x * shape.stride
                lefts[p] = x * shape.stride * shape.channels * ROW
                p += 1


@helper
def _sum_pixels(table, top, entries, ends, first_panel, bias, channel, out, first_pixel, stop):
    """Sums the lists of pixels up to `stop` for the outputs from `channel` on."""
    outputs, edge, flat = out.shape[1], np.empty(ABREAST * LANES, np.float32), out.reshape(-1)
    channels = min(LANES, outputs - channel)
    for several in range(len(ends) - 1):
        first, pixel = ends[several], first_pixel + several * ABREAST
        length = (ends[several + 1] - first) // ABREAST
        place = pixel * outputs + channel
        if pixel + ABREAST <= stop and channels == LANES:
            if first_panel:
                steps = 0, outputs
                _sum_rows(table, top, entries, first, length, bias, channel, flat, place, steps)
            else:
                steps = outputs, outputs
                _sum_rows(table, top, entries, first, length, flat, place, flat, place, steps)
            continue
        pixels = min(ABREAST, stop - pixel)
        for j in range(pixels):
            for k in range(channels):
                before = bias[channel + k] if first_panel else out[pixel + j, channel + k]
                edge[j * LANES + k] = before
        _sum_rows(table, top, entries, first, length, edge, 0, edge, 0, (LANES, LANES))
        for j in range(pixels):
            for k in range(channels):
                out[pixel + j, channel + k] = edge[j * LANES + k]


@kernel
def sum_event_weights(shares, tasks, arguments, sources=SOURCES):
    """Sums the weights of the spikes; the arguments are those of `_sum_groups`."""
    return run_shares(_sum_groups, shares, tasks, arguments)


@helper
def _sum_groups(
    start,
    stop,
    group,  # images per task
    shape,
    spikes,  # [images, height * width, channels as given], zeros and ones
    one,  # in the type of the spikes, bit patterns for half precision
    panels,
    weights,  # float32 [blocks, rows * LANES]
    bias,  # float32 [blocks * LANES]
    places,
    counts,
    out,  # float32 [images * out_height * out_width, outputs]
    odd,  # uint8 [tasks]: set where a value is neither 0 nor 1
):
    pixels = shape.out_height * shape.out_width
    padded = (shape.height + 2 * shape.padding) * (shape.width + 2 * shape.padding) + 1
    line = np.zeros(shape.channels, spikes.dtype)
    events = np.empty(group * shape.height * shape.width * shape.channels + RUN, np.uint16)
    firsts = np.empty(group * padded, np.int64)
    corners, lefts = np.empty(group * pixels, np.int64), np.empty(group * pixels, np.int64)
    _put_corners(shape, group, corners, lefts)
    longest = shape.rows * shape.columns * shape.channels + TOGETHER
    entries = np.empty((PIXELS + ABREAST) * longest + RUN, np.uint16)
    ends = np.zeros(PIXELS // ABREAST + 1, np.int64)
    for task in range(start, stop):
        images, n = min(group, spikes.shape[0] - task * group), 0
        for i in range(images):
            n, bits = _list_events(
                shape, task * group + i, spikes, one, places, counts, line, events, firsts,
                i * padded, n,
            )  # fmt: skip
            odd[task] |= bits >> _LANE_BITS != 0
        for low in range(0, images * pixels, PIXELS):
            high = min(low + PIXELS, images * pixels)
            several = ends[: (high - low + ABREAST - 1) // ABREAST + 1]
            first_pixel = task * group * pixels + low
            for panel in range(len(panels.parts)):
                top = panels.tops[panel]
                zeros = np.uint16((panels.tops[panel + 1] - top - 1) * ROW)
                _list_pixels(
                    panels.parts[panel], zeros, corners[low:high], lefts[low:high], events, firsts,
                    entries, several,
                )  # fmt: skip
                for block in range(len(weights)):
                    _sum_pixels(
                        weights[block], top * LANES, entries, several, panel == 0, bias,
                        block * LANES, out, first_pixel, first_pixel + high - low,
                    )  # fmt: skip


@kernel
def block_weights(weight, steps, places, channels, tops, table, sources=SOURCES):
    """Copies weights to `[blocks, rows * LANES]`.

    `steps` are how far apart outputs, channels as given and places of the kernel lie in memory, and
    how many of each of the first two there are.
    """
    output, channel, place, outputs, given = steps
    for block in range(len(table)):
        count, rows = min(LANES, outputs - block * LANES), table[block]
        panel, at = 0, 0
        for p in range(places):
            for c in range(channels):
                source = block * LANES * output + p * place + c * channel
                if count == LANES and c < given:
                    for k in range(LANES):
                        rows[at + k] = weight[source + k * output]
                else:
                    for k in range(LANES):
                        there = k < count and c < given
                        rows[at + k] = weight[source + k * output] if there else _ZERO
                at += LANES
            if at == (tops[panel + 1] - 1) * LANES:
                for k in range(LANES):
                    rows[at + k] = _ZERO
                at, panel = at + LANES, panel + 1


@kernel
def _count_active(values, size, step, one, sources=SOURCES):
    """How many values of every `step`-th image are not 0, and how many of those not 1."""
    active, odd = 0, 0
    for start in range(0, values.size, size * step):
        image = values[start : start + size]
        for j in range(image.size):  # by number, which LLVM makes vectors of
            active += image[j] != 0
            odd += (image[j] != 0) & (image[j] != one)
    return active, odd


def count_spikes(images: Tensor, step: int) -> int | None:
    """The spikes of every `step`-th image of `[B, C, H, W]`, or None if a value is no 0 or 1."""
    if not images.is_contiguous():
        images = images.permute(0, 2, 3, 1).contiguous()
    size = images[0].numel()
    active, odd = _count_active(bit_patterns(images.view(-1)), size, step, _one(images.dtype))
    return None if odd else active


@lru_cache
def _one(dtype: torch.dtype) -> Any:
    return bit_patterns(torch.ones(1, dtype=dtype))[0]


def event_driven_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> Tensor | None:
    """Convolves spikes, in time that grows with how many there are.

    Args:
        x: Zeros and ones `[B, C, H, W]`, any dtype; an entry of a list has 16 bits, which is enough
            for 8176 channels.
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
        -(-given // LANES) * LANES,
        rows,
        columns,
        stride,
        padding,
        (height + 2 * padding - rows) // stride + 1,
        (width + 2 * padding - columns) // stride + 1,
    )
    panels = _panels(shape)
    blocks = -(-outputs // LANES)
    start = torch.zeros(blocks * LANES)
    if bias is not None:
        start[:outputs] = bias
    table = np.empty((blocks, panels.tops[-1] * LANES), np.float32)
    places, weight_ = rows * columns, weight.detach().float()
    steps = (given * places, places, 1, outputs, given)
    if not weight_.is_contiguous():
        weight_, steps = weight_.permute(0, 2, 3, 1), (given * places, 1, given, outputs, given)
    flat = weight_.contiguous().view(-1).numpy()
    block_weights(flat, steps, places, shape.channels, panels.tops, table)
    spikes = x.permute(0, 2, 3, 1).contiguous().view(images, height * width, given)
    out = in_large_pages(torch.empty(images * shape.out_height * shape.out_width, outputs))
    group = max(1, min(PIXELS // (height * width), images // torch.get_num_threads()))
    tasks = -(-images // group)
    odd = np.zeros(tasks, np.uint8)
    run_blocks(
        sum_event_weights,
        tasks,
        DEAR * max(spikes.numel(), out.numel()),
        group,
        shape,
        bit_patterns(spikes),
        _one(x.dtype),
        panels,
        table,
        start.numpy(),
        _PLACES,
        _COUNTS,
        out.numpy(),
        odd,
    )
    if odd.any():
        return None
    out = out.view(images, shape.out_height, shape.out_width, outputs).permute(0, 3, 1, 2)
    return out.to(weight.dtype)


@lru_cache(maxsize=64)
def _panels(shape: ConvolutionSizes) -> Panels:
    """The places of a kernel, in as few panels as are small enough."""
    places, wide = shape.rows * shape.columns, shape.padded[1]
    count = -(-places // max(1, PANEL // shape.channels))
    bounds = [places * panel // count for panel in range(count + 1)]
    parts = np.zeros((count, shape.rows, 3), np.int64)
    for panel, (first, last) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        for row in range(shape.rows):
            before = row * shape.columns
            left, right = (min(max(end - before, 0), shape.columns) for end in (first, last))
            entry = (before - first) * shape.channels * ROW
            parts[panel, row] = row * wide + left, row * wide + right, entry
    tops = np.array([bound * shape.channels + panel for panel, bound in enumerate(bounds)])
    return Panels(parts, tops)
