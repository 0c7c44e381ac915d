"""Event-driven convolution on the CPU: a sum of weight rows over the inputs that spiked.

Each output pixel has a list of the weights that it sums, which every block of `LANES` outputs
reads. Weights lie as `[block of outputs, h, w, channel, output]`, so an event's are one row, a
vector and a cache line. Sums stay in registers over a panel, which is as many places of the kernel
as the first-level cache holds rows of, and come in the order of the dense sum: row, column,
channel.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg,var-annotated"
# Numba infers the types of compiled functions.
from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.convolution.spike_lists import (
    ABREAST,
    COUNTS,
    PLACES,
    list_events,
    list_pixels,
    put_corners,
    sort_pixels,
)
from robust_snn.kernels.large_pages import in_large_pages
from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.half_precision import bit_patterns
from robust_snn.kernels.numba_tools.shares import run_shares
from robust_snn.kernels.numba_tools.threads import run_blocks
from robust_snn.kernels.numba_tools.vectors import LANES, ROW, RUN, TOGETHER, row_summer

DEAR = 4  # times a pass over the values: lists, and sums of a few spikes
PIXELS = 512  # whose lists are made before they are read, so that weights stay in the cache
PANEL = 768  # rows of weights: 48 KiB
_sum_rows = row_summer(ABREAST)

_ZERO = np.float32(0)
_LANE_BITS = np.uint32(LANES)


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
def _four(values, at, scale, shift):
    """`ABREAST` values as a tuple, which compiled code keeps in registers."""
    return (
        values[at] * scale + shift,
        values[at + 1] * scale + shift,
        values[at + 2] * scale + shift,
        values[at + 3] * scale + shift,
    )


@helper
def _sum_pixels(table, top, entries, ends, order, first_panel, bias, channel, out, first_pixel):
    """Sums the lists of pixels for the outputs from `channel` on."""
    outputs, edge, flat = out.shape[1], np.empty(ABREAST * LANES, np.float32), out.reshape(-1)
    channels, whole = min(LANES, outputs - channel), np.arange(ABREAST)
    for several in range(len(ends) - 1):
        first, at = ends[several], several * ABREAST
        length = (ends[several + 1] - first) // ABREAST
        if channels == LANES:
            places = _four(order, at, outputs, first_pixel * outputs + channel)
            if first_panel:
                starts = channel, channel, channel, channel
                _sum_rows(table, top, entries, first, length, bias, starts, flat, places)
            else:
                _sum_rows(table, top, entries, first, length, flat, places, flat, places)
            continue
        for j in range(ABREAST):
            for k in range(channels):
                pixel = first_pixel + order[at + j]
                edge[j * LANES + k] = bias[channel + k] if first_panel else out[pixel, channel + k]
        places = _four(whole, 0, LANES, 0)
        _sum_rows(table, top, entries, first, length, edge, places, edge, places)
        for j in range(ABREAST):
            for k in range(channels):
                out[first_pixel + order[at + j], channel + k] = edge[j * LANES + k]


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
    put_corners(shape, group, corners, lefts)
    longest = shape.rows * shape.columns * shape.channels + TOGETHER
    entries = np.empty((PIXELS + ABREAST) * longest + RUN, np.uint16)
    ends = np.zeros(PIXELS // ABREAST + 1, np.int64)
    lengths, order = np.empty(PIXELS, np.int64), np.empty(PIXELS + ABREAST, np.int64)
    starts = np.empty(longest // TOGETHER + 2, np.int64)
    for task in range(start, stop):
        images, n = min(group, spikes.shape[0] - task * group), 0
        for i in range(images):
            n, bits = list_events(
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
                parts = panels.parts[panel]
                sort_pixels(parts, corners[low:high], firsts, lengths, starts, order)
                list_pixels(
                    parts, zeros, corners[low:high], lefts[low:high], events, firsts, lengths,
                    order, entries, several,
                )  # fmt: skip
                for block in range(len(weights)):
                    _sum_pixels(
                        weights[block], top * LANES, entries, several, order, panel == 0, bias,
                        block * LANES, out, first_pixel,
                    )  # fmt: skip


@kernel
def block_weights(shares, tasks, arguments, sources=SOURCES):
    """Copies weights to a table of blocks; the arguments are those of `_block_some`."""
    return run_shares(_block_some, shares, tasks, arguments)


@helper
def _block_some(start, stop, weight, steps, places, channels, tops, table):
    """Copies weights to some of `[blocks, rows * LANES]`.

    `steps` are how far apart outputs, channels as given and places of the kernel lie in memory, and
    how many of each of the first two there are.
    """
    output, channel, place, outputs, given = steps
    for block in range(start, stop):
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
            for 8176 channels of a group.
        weight: `[out, C / groups, h, w]`.
        bias: `[out]`.
        stride: The same along both axes.
        padding: Zeros on every side.

    Returns:
        `[B, out, H', W']`, channels-last in memory, or None if a value of `x` is neither 0 nor 1.
    """
    groups = x.shape[1] // weight.shape[1]
    if groups == 1:
        return _convolve_group(x, weight, bias, stride, padding)
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts: list[Tensor] = []
    for some, weights, start in zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True):
        part = _convolve_group(some, weights, start, stride, padding)
        if part is None:
            return None
        parts.append(part)
    return torch.cat(parts, 1)


def _convolve_group(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> Tensor | None:
    """The same for one group."""
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
    table = torch.empty((blocks, panels.tops[-1] * LANES)).numpy()  # whose rows are cache lines
    places, weight_ = rows * columns, weight.detach().float()
    steps = (given * places, places, 1, outputs, given)
    if not weight_.is_contiguous():
        weight_, steps = weight_.permute(0, 2, 3, 1), (given * places, 1, given, outputs, given)
    flat = weight_.contiguous().view(-1).numpy()
    weights = flat, steps, places, shape.channels, panels.tops, table
    run_blocks(block_weights, blocks, DEAR * table.size, *weights)
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
        PLACES,
        COUNTS,
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
