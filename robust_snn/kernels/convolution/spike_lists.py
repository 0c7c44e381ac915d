"""Lists of spikes, and of the rows of weights that each output pixel of a convolution sums.

The spikes of an image become a list of events, ordered by pixel and channel, sixteen channels by
one comparison; where the padding lies, none. From it each output pixel gets the list of its rows.
Pixels with lists of about one length are summed together, so they are sorted by it.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg,var-annotated"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import helper
from robust_snn.kernels.numba_tools.vectors import (
    LANES,
    ROW,
    RUN,
    TOGETHER,
    active_lanes,
    copy_eight,
    copy_run,
    put_run,
)

BYTE = 8  # input channels that one step adds to the list
ABREAST = 4  # output pixels that are summed at once

# Where the rows of the ones of every byte lie, then zeros, and the number of ones.
PLACES = np.zeros((256, BYTE), np.uint16)
for _byte in range(256):
    _ones = [_bit for _bit in range(BYTE) if _byte >> _bit & 1]
    PLACES[_byte, : len(_ones)] = np.array(_ones, np.uint16) * ROW
COUNTS = np.array([bin(_byte).count("1") for _byte in range(256)], np.int32)
_FIRST_BYTE, _BYTE_BITS = np.uint32(255), np.uint32(BYTE)


@helper
def _list_pixel(values, place, channels, one, places, counts, base, events, n):
    """Appends the spikes of one pixel to `events[n:]`; returns where they end, and bits."""
    bits = np.uint32(0)
    for c in range(0, channels, LANES):
        active = active_lanes(values, place + c, one)
        bits |= active
        for byte in range(2):
            ones = (active >> (_BYTE_BITS * np.uint32(byte))) & _FIRST_BYTE
            shift = np.uint16(base + (c + BYTE * byte) * ROW)
            copy_eight(places, np.intp(ones) * BYTE, shift, events, n)
            n += counts[ones]
    return n, bits


@helper
def list_events(shape, image, spikes, one, places, counts, line, events, firsts, at, n):
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
                place = ((image * shape.height + y) * shape.width + x) * given
                if given == channels:
                    n, found = _list_pixel(
                        flat, place, channels, one, places, counts, base, events, n
                    )
                else:
                    for c in range(given):
                        line[c] = flat[place + c]
                    n, found = _list_pixel(line, 0, channels, one, places, counts, base, events, n)
                bits |= found
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
def sort_pixels(parts, corners, firsts, lengths, starts, order):
    """Puts output pixels in the order of the lengths of their lists, the shortest first.

    Notes those `lengths`, in units of `TOGETHER`. The last pixel is repeated until `ABREAST` are
    full.
    """
    starts[:] = 0
    for p in range(len(corners)):
        count = TOGETHER - 1
        for part in range(len(parts)):
            count += firsts[corners[p] + parts[part, 1]] - firsts[corners[p] + parts[part, 0]]
        lengths[p] = count // TOGETHER
        starts[lengths[p] + 1] += 1
    for length in range(1, len(starts)):
        starts[length] += starts[length - 1]
    for p in range(len(corners)):
        order[starts[lengths[p]]] = p
        starts[lengths[p]] += 1
    for p in range(len(corners), len(corners) + ABREAST - 1):
        order[p] = order[len(corners) - 1]


@helper
def list_pixels(parts, zeros, corners, lefts, events, firsts, lengths, order, entries, ends):
    """Lists for output pixels; those of `ABREAST` are made equally long by rows of zeros."""
    n = 0
    for several in range(len(ends) - 1):
        last = (several + 1) * ABREAST
        longest = lengths[order[last - 1]] * TOGETHER
        for place in range(last - ABREAST, last):
            p = order[place]
            end = _list_rows(parts, corners[p], lefts[p], events, firsts, entries, n)
            n += longest
            for k in range(end, n, RUN):
                put_run(zeros, entries, k)
        ends[several + 1] = n


@helper
def put_corners(shape, images, corners, lefts):
    """Where the window of each output pixel begins in `firsts`, and how far to the left."""
    high, wide = shape.height + 2 * shape.padding, shape.width + 2 * shape.padding
    p = 0
    for i in range(images):
        for y in range(shape.out_height):
            for x in range(shape.out_width):
                corners[p] = i * (high * wide + 1) + y * shape.stride * wide + x * shape.stride
                lefts[p] = x * shape.stride * shape.channels * ROW
                p += 1
