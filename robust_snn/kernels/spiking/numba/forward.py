"""Forward kernels: take a block of neurons through all time steps."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import SOURCES, device, kernel
from robust_snn.kernels.numba_tools.half_precision import as_float
from robust_snn.kernels.spiking.numba import block_ops as passes
from robust_snn.kernels.spiking.numba.philox import draw_quad

BLOCK = 4096  # neurons; long enough runs for the memory, few enough for a second-level cache
_ONE = np.float32(1)
NONE, DRAW, AVERAGE = 0, 1, 2  # of `Mode`
FIRED, MEAN, CODE = 1, 2, 3  # of `Zoning`
GATE, SPIKE = np.uint32(1), np.uint32(2)  # of `Purpose`; as plain numbers each compiles anew


@device
def pick(stack, t):
    """The slice of step `t`; a stack of one stands for all steps."""
    return stack[t if stack.shape[0] > 1 else 0]


@device
def drive_at(plan, x, affine, here, step_gain, out):
    """What the current adds to the membrane: `out`, or `x` itself where nothing changes it."""
    gain = np.float32(plan.gain)
    if affine.shape[1] > 0:
        passes.transform(x, affine[0, here], affine[1, here], out)
        x = out
    if gain != _ONE or step_gain != _ONE:
        if affine.shape[1] == 0:
            passes.copy(x, out)
        passes.amplify(gain, step_gain, out)
        x = out
    return x


@device
def start_membrane(plan, u):
    passes.fill(np.float32(plan.jump if plan.hard else 0.0), u)


@device
def advance(plan, t, decay, numbers, key, drive, table, words, u, v, spike):
    """One step from the membrane `u` to `v`, `spike` and the new `u`."""
    threshold, drop = np.float32(plan.threshold), np.float32(plan.jump)
    if plan.firing == NONE:
        passes.leak_and_fire(drive, decay, threshold, plan.hard, drop, u, v, spike)
        return
    passes.leak(drive, decay, u, v)
    sharpness = np.float32(plan.noise_sharpness)
    passes.firing_probability(v, threshold, sharpness, table, spike)
    if plan.firing == DRAW:
        if t % 4 == 0:
            draw_quad(key, numbers, t // 4, plan.noise_layer, SPIKE, words)
        passes.draw_below(words[t % 4], spike)
    passes.reset(v, spike, np.float32(plan.hard), drop, u)


@device
def mark_mean(plan, total, zone):
    lower, upper = np.float32(plan.lower_edge), np.float32(plan.upper_edge)
    passes.mark_mean(total, plan.steps, lower, upper, zone)


@kernel
def spiking_forward(
    start,
    stop,
    plan,
    current,  # [T or 1, B, N], float32 or bits of half precision
    steps,  # float32 [2, T]: decay and input gain of each step
    affine,  # float32 [2, N]: scale and shift, or [2, 0]
    probability,  # float32 [N]: of the gates to open, or [0]
    keys,  # int64 [2, B]: of the gate and of the noise
    order,  # uint32 [N]: number of each neuron in the random stream
    table,  # float32: distribution of the noise
    out,  # [T, B, N], in the type of the current
    zone,  # uint8 [1, B, N] zeros of a rate rule, [T, B, N] of a compact one, or [0, B, N]
    sources=SOURCES,
):
    T, N = plan.steps, out.shape[2]
    blocks = (N + BLOCK - 1) // BLOCK
    work = np.empty((5, BLOCK), np.float32)
    gate_words, spike_words = np.empty((4, BLOCK), np.uint32), np.empty((4, BLOCK), np.uint32)
    threshold, sharpness = np.float32(plan.threshold), np.float32(plan.sharpness)
    drop, remembers = np.float32(plan.jump), plan.zoning in (FIRED, CODE)
    only_gated = plan.firing == NONE and plan.gating == DRAW and not remembers
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        numbers = order[here]
        u, v, total, spike = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
        start_membrane(plan, u)
        passes.fill(np.float32(0), total)
        for t in range(T):
            x = as_float(pick(current, t)[b, here], work[4])
            x = drive_at(plan, x, affine, here, steps[1, t], work[4, :n])
            row, decay = out[t, b, here], steps[0, t]
            if plan.zoning == MEAN:
                passes.add(x, total)
            if plan.gating == DRAW and t % 4 == 0:
                draw_quad(keys[0, b], numbers, t // 4, plan.layer, GATE, gate_words)
            words, open_below = gate_words[t % 4], probability[here]
            if only_gated:
                passes.leak_and_gate(
                    x, decay, threshold, plan.hard, drop, u, words, open_below, row
                )
                continue
            advance(plan, t, decay, numbers, keys[1, b], x, table, spike_words, u, v, spike)
            if plan.zoning == FIRED:
                passes.mark_fired(spike, zone[0, b, here])
            elif plan.zoning == CODE:
                passes.encode(v, spike, threshold, sharpness, zone[t, b, here])
            if plan.gating == DRAW:
                passes.keep_below(words, open_below, spike, row)
            elif plan.gating == AVERAGE:
                passes.multiply(spike, open_below, row)
            else:
                passes.copy(spike, row)
        if plan.zoning == MEAN:
            mark_mean(plan, total, zone[0, b, here])


@kernel
def plain_forward(start, stop, plan, current, steps, affine, out, zone, sources=SOURCES):
    """`spiking_forward` without anything random and without a compact memory.

    It compiles in a fraction of the time, and keeps nothing but the membrane.
    """
    N = out.shape[2]
    blocks = (N + BLOCK - 1) // BLOCK
    work = np.empty((3, BLOCK), np.float32)
    threshold, drop = np.float32(plan.threshold), np.float32(plan.jump)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        u, total = work[0, :n], work[1, :n]
        start_membrane(plan, u)
        passes.fill(np.float32(0), total)
        for t in range(plan.steps):
            x = as_float(pick(current, t)[b, here], work[2])
            x = drive_at(plan, x, affine, here, steps[1, t], work[2, :n])
            row = out[t, b, here]
            passes.leak_and_put(x, steps[0, t], threshold, plan.hard, drop, u, row)
            if plan.zoning == FIRED:
                passes.mark_fired(row, zone[0, b, here])
            elif plan.zoning == MEAN:
                passes.add(x, total)
        if plan.zoning == MEAN:
            mark_mean(plan, total, zone[0, b, here])


@kernel
def membrane_trace(
    start,
    stop,
    plan,
    current,
    steps,
    affine,
    probability,
    keys,
    order,
    table,
    out,  # float32 [T, B, N]: membrane minus threshold
    sources=SOURCES,
):
    N = out.shape[2]
    threshold = np.float32(plan.threshold)
    blocks = (N + BLOCK - 1) // BLOCK
    work, words = np.empty((4, BLOCK), np.float32), np.empty((4, BLOCK), np.uint32)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        u, v, spike = work[0, :n], work[1, :n], work[2, :n]
        start_membrane(plan, u)
        for t in range(plan.steps):
            x = as_float(pick(current, t)[b, here], work[3])
            x = drive_at(plan, x, affine, here, steps[1, t], work[3, :n])
            advance(plan, t, steps[0, t], order[here], keys[1, b], x, table, words, u, v, spike)
            passes.subtract(v, threshold, out[t, b, here])
