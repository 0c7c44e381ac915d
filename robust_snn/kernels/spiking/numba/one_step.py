"""What a gradient mode computes for one time step of neurons that the network runs by itself.

Operation by operation these formulas pass over memory five to fourteen times; here it is once.
Arrays are flat and contiguous; a row of `width` neurons, such as a channel, shares a sharpness.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.shares import run_shares
from robust_snn.kernels.spiking.numba import block_ops
from robust_snn.kernels.spiking.numba.slopes import fill_slopes

BLOCK = 2048  # neurons whose temporary values stay in the first-level cache


@helper
def _block(task, width):
    """Row and range of a block; rows are cut into blocks of their own."""
    per_row = -(-width // BLOCK)
    row, start = task // per_row, task % per_row * BLOCK
    return row, row * width + start, row * width + min(width, start + BLOCK)


@helper
def _slope_products(start, stop, args, width, upstream, membrane, sharpness, out):
    work = np.empty((2, BLOCK), np.float32)
    jump, own = np.float32(args.jump), sharpness.size == membrane.size
    threshold = np.float32(args.threshold)
    for task in range(start, stop):
        row, first, last = _block(task, width)
        slope, sharp = work[0, : last - first], work[1, : last - first]
        if own:
            fill_slopes(args, membrane[first:last], threshold, sharpness[first:last], slope)
        else:
            block_ops.fill(sharpness[row], sharp)
            fill_slopes(args, membrane[first:last], threshold, sharp, slope)
        g, product = upstream[first:last], out[first:last]
        for j in range(product.size):
            product[j] = g[j] * (jump * slope[j])


@kernel
def slope_products(shares, tasks, arguments, _sources=SOURCES):
    """The gradient on a membrane: upstream times the surrogate derivative times the jump."""
    return run_shares(_slope_products, shares, tasks, arguments)


@helper
def _sums(start, stop, width, membrane, out):
    for row in range(start, stop):
        values = membrane[row * width : (row + 1) * width]
        total, square = np.zeros(8), np.zeros(8)
        whole = width // 8 * 8
        for first in range(0, whole, 8):
            for j in range(8):
                z = np.float64(values[first + j])
                total[j] += z
                square[j] += z * z
        for j in range(whole, width):
            z = np.float64(values[j])
            total[0] += z
            square[0] += z * z
        out[0, row], out[1, row] = total.sum(), square.sum()


@kernel
def sums(shares, tasks, arguments, _sources=SOURCES):
    """Sums over each row of the distance from the threshold, and of its square."""
    return run_shares(_sums, shares, tasks, arguments)


@helper
def _distances(start, stop, constants, z, mean, deviation):
    kept, fresh = constants
    for task in range(start, stop):
        first, last = task * BLOCK, min(z.size, (task + 1) * BLOCK)
        for j in range(first, last):
            distance = abs(z[j])
            middle = mean[j] * kept + fresh * distance
            mean[j] = middle
            deviation[j] = deviation[j] * kept + abs(distance - middle) * fresh


@kernel
def distances(shares, tasks, arguments, _sources=SOURCES):
    """A step of the running mean of the distance from the threshold, and of its deviation."""
    return run_shares(_distances, shares, tasks, arguments)


@helper
def _drives(start, stop, constants, membrane, spikes, drive, carried):
    edge, low, jump, decay, clear, drop, leak = constants
    for task in range(start, stop):
        first, last = task * BLOCK, min(membrane.size, (task + 1) * BLOCK)
        for j in range(first, last):
            z, fired = membrane[j] - edge, (spikes[j] - low) / jump
            drive[j] += z - carried[j]
            carried[j] = (decay + clear * fired) * z + drop * fired - leak


@kernel
def drives(shares, tasks, arguments, _sources=SOURCES):
    """Adds the drive of a step to a sum, and notes what its membrane leaves to the next step."""
    return run_shares(_drives, shares, tasks, arguments)
