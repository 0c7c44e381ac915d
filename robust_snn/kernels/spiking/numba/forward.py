"""Forward kernels: take a block of neurons through all time steps."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.half_precision import as_float
from robust_snn.kernels.numba_tools.shares import run_shares
from robust_snn.kernels.numba_tools.vectors import prefetch
from robust_snn.kernels.philox import Purpose
from robust_snn.kernels.spiking.codes import Randomness, Saved
from robust_snn.kernels.spiking.numba import block_ops
from robust_snn.kernels.spiking.numba.own_numbers import decay_at, start_thresholds, threshold_at
from robust_snn.kernels.spiking.numba.philox import SPARE, philox_quad

_ONE = np.float32(1)
GATE, SPIKE = np.uint32(Purpose.GATE), np.uint32(Purpose.SPIKE)  # as int64 each compiles anew


@helper
def pick(stack, t):
    """The slice of step `t`; a stack of one stands for all steps."""
    return stack[t if stack.shape[0] > 1 else 0]


@helper
def drive_at(args, x, affine, here, step_gain, out):
    """What the current adds to the membrane: `out`, or `x` itself where nothing changes it."""
    gain = np.float32(args.gain)
    if affine.shape[1] > 0:
        block_ops.transform(x, affine[0, here], affine[1, here], out)
        x = out
    if gain != _ONE or step_gain != _ONE:
        if affine.shape[1] == 0:
            block_ops.copy(x, out)
        block_ops.amplify(gain, step_gain, out)
        x = out
    return x


@helper
def start_membrane(args, u):
    block_ops.fill(np.float32(args.reset_value if args.hard else 0.0), u)


@helper
def advance(args, t, decay, threshold, numbers, key, drive, firing_table, words, u, v, spike):
    """One step from the membrane `u` to `v`, `spike` and the new `u`."""
    reset_value = np.float32(args.reset_value)
    if args.firing == Randomness.NONE:
        block_ops.leak_and_fire(drive, decay, threshold, args.hard, reset_value, u, v, spike)
        return
    block_ops.leak(drive, decay, u, v)
    sharpness = np.float32(args.noise_sharpness)
    block_ops.firing_probability(v, np.float32(args.threshold), sharpness, firing_table, spike)
    if args.firing == Randomness.DRAW:
        if t % 4 == 0:
            philox_quad(key, numbers, t // 4, args.noise_layer, SPIKE, words)
        block_ops.draw_below(words[t % 4], spike)
    block_ops.reset_membranes(v, spike, np.float32(args.hard), reset_value, u)


@helper
def mark_mean_drive(args, total, saved_bytes):
    lower, upper = np.float32(args.lower_edge), np.float32(args.upper_edge)
    block_ops.mark_by_mean(total, args.steps, lower, upper, saved_bytes)


@kernel
def spiking_forward(shares, tasks, arguments, sources=SOURCES):
    """Spikes of any layer; the arguments are those of `_spiking_blocks`."""
    return run_shares(_spiking_blocks, shares, tasks, arguments)


@helper
def _spiking_blocks(
    start,
    stop,
    block,  # neurons that go through time together
    args,
    current,  # [T or 1, B, N], float32 or bits of half precision
    steps,  # float32 [2, T]: decay and input gain of each step
    affine,  # float32 [2, N]: scale and shift, or [2, 0]
    leaks,  # float32 [T or 1, B or 1, N]: factor on each neuron's decay, or None
    own,  # thresholds that neurons do not share, see `own_numbers.threshold_at`, or None
    probability,  # float32 [N]: of the gates to open, or [0]
    keys,  # int64 [2, B]: of the gate and of the membrane noise
    neurons,  # uint32 [N + SPARE]: number of each neuron in the random stream
    firing_table,  # float32: firing probabilities of the membrane noise
    out,  # [T, B, N], in the type of the current
    saved_bytes,  # uint8 [1 or T, B, N] zeros, or [0, B, N]; see `Saved`
):
    T, N = args.steps, out.shape[2]
    blocks = (N + block - 1) // block
    work = np.empty((7, block), np.float32)
    gate_words = np.empty((4, block + SPARE), np.uint32)
    spike_words = np.empty((4, block + SPARE), np.uint32)
    sharpness, reset_value = np.float32(args.surrogate_sharpness), np.float32(args.reset_value)
    remembers = args.saves == Saved.FIRED or args.saves == Saved.MEMBRANE
    only_gated = args.firing == Randomness.NONE and args.gating == Randomness.DRAW and not remembers
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * block
        n = min(block, N - first)
        here = slice(first, first + n)
        numbers = neurons[first : first + n + SPARE]
        u, v, total, spike = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
        start_membrane(args, u)
        start_thresholds(args, own, work[5, :n])
        block_ops.fill(np.float32(0), total)
        for t in range(T):
            x = as_float(pick(current, t)[b, here], work[4])
            x = drive_at(args, x, affine, here, steps[1, t], work[4, :n])
            row, decay = out[t, b, here], decay_at(args, steps, leaks, t, b, here, work[6, :n])
            threshold = threshold_at(args, own, t, here, work[5, :n])
            if t + 1 < args.steps:
                prefetch(pick(current, t + 1)[b, here])
                prefetch(out[t + 1, b, here])
            if args.saves == Saved.MEAN_DRIVE:
                block_ops.add(x, total)
            if args.gating == Randomness.DRAW and t % 4 == 0:
                philox_quad(keys[0, b], numbers, t // 4, args.gate_layer, GATE, gate_words)
            words, open_below = gate_words[t % 4], probability[here]
            if only_gated:
                block_ops.leak_and_gate(
                    x, decay, threshold, args.hard, reset_value, u, words, open_below, row
                )
                continue
            advance(
                args, t, decay, threshold, numbers, keys[1, b], x, firing_table, spike_words,
                u, v, spike,
            )  # fmt: skip
            if args.saves == Saved.FIRED:
                block_ops.mark_fired(spike, saved_bytes[0, b, here])
            elif args.saves == Saved.MEMBRANE:
                block_ops.encode(
                    v, spike, np.float32(args.threshold), sharpness, saved_bytes[t, b, here]
                )
            if args.gating == Randomness.DRAW:
                block_ops.keep_below(words, open_below, spike, row)
            elif args.gating == Randomness.MEAN:
                block_ops.multiply(spike, open_below, row)
            else:
                block_ops.copy(spike, row)
        if args.saves == Saved.MEAN_DRIVE:
            mark_mean_drive(args, total, saved_bytes[0, b, here])


@kernel
def plain_forward(shares, tasks, arguments, sources=SOURCES):
    """`spiking_forward` without anything random and without saved membranes.

    It compiles in a fraction of the time, and keeps nothing but the membrane.
    """
    return run_shares(_plain_blocks, shares, tasks, arguments)


@helper
def _plain_blocks(start, stop, block, args, current, steps, affine, leaks, own, out, saved_bytes):
    N = out.shape[2]
    blocks = (N + block - 1) // block
    work = np.empty((5, block), np.float32)
    reset_value = np.float32(args.reset_value)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * block
        n = min(block, N - first)
        here = slice(first, first + n)
        u, total = work[0, :n], work[1, :n]
        start_membrane(args, u)
        start_thresholds(args, own, work[3, :n])
        block_ops.fill(np.float32(0), total)
        for t in range(args.steps):
            x = as_float(pick(current, t)[b, here], work[2])
            x = drive_at(args, x, affine, here, steps[1, t], work[2, :n])
            row = out[t, b, here]
            if t + 1 < args.steps:
                prefetch(pick(current, t + 1)[b, here])
                prefetch(out[t + 1, b, here])
            decay = decay_at(args, steps, leaks, t, b, here, work[4, :n])
            threshold = threshold_at(args, own, t, here, work[3, :n])
            block_ops.leak_and_put(x, decay, threshold, args.hard, reset_value, u, row)
            if args.saves == Saved.FIRED:
                block_ops.mark_fired(row, saved_bytes[0, b, here])
            elif args.saves == Saved.MEAN_DRIVE:
                block_ops.add(x, total)
        if args.saves == Saved.MEAN_DRIVE:
            mark_mean_drive(args, total, saved_bytes[0, b, here])


@kernel
def membrane_trace(shares, tasks, arguments, sources=SOURCES):
    """Membranes of any layer; the arguments are those of `_traced_blocks`."""
    return run_shares(_traced_blocks, shares, tasks, arguments)


@helper
def _traced_blocks(
    start,
    stop,
    block,  # neurons that go through time together
    args,
    current,
    steps,
    affine,
    leaks,
    own,
    keys,
    neurons,
    firing_table,
    out,  # float32 [T, B, N]: membrane minus threshold
):
    N = out.shape[2]
    blocks = (N + block - 1) // block
    work, words = np.empty((6, block), np.float32), np.empty((4, block + SPARE), np.uint32)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * block
        n = min(block, N - first)
        here = slice(first, first + n)
        numbers = neurons[first : first + n + SPARE]
        u, v, spike = work[0, :n], work[1, :n], work[2, :n]
        start_membrane(args, u)
        start_thresholds(args, own, work[4, :n])
        for t in range(args.steps):
            x = as_float(pick(current, t)[b, here], work[3])
            x = drive_at(args, x, affine, here, steps[1, t], work[3, :n])
            decay = decay_at(args, steps, leaks, t, b, here, work[5, :n])
            threshold = threshold_at(args, own, t, here, work[4, :n])
            advance(
                args, t, decay, threshold, numbers, keys[1, b], x, firing_table, words, u, v, spike
            )
            block_ops.distances(v, threshold, out[t, b, here])
