"""Forward kernels: take a block of neurons through all time steps."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.spiking.numba import passes
from robust_snn.kernels.spiking.numba.compile import SOURCES, device, kernel
from robust_snn.kernels.spiking.numba.draws import draw_quad
from robust_snn.kernels.spiking.numba.half import as_float

BLOCK = 2048  # neurons; long enough runs for the memory, few enough for a second-level cache
NONE, DRAW, AVERAGE = 0, 1, 2  # of `Mode`
FIRED, MEAN, CODE = 1, 2, 3  # of `Zoning`
GATE, SPIKE = np.uint32(1), np.uint32(2)  # of `Purpose`; as plain numbers each compiles anew


@device
def pick(stack, t):
    """The slice of step `t`; a stack of one stands for all steps."""
    return stack[t if stack.shape[0] > 1 else 0]


@device
def own_rows(neurons, N, first, n):
    """Scale, shift and gate probability of the block; rows stay contiguous, so loops vectorise."""
    start = first if neurons.shape[1] == N else 0
    here = slice(start, start + n)
    return neurons[0, here], neurons[1, here], neurons[2, here]


@device
def start_membrane(plan, u):
    passes.fill(np.float32(plan.jump if plan.hard else 0.0), u)


@device
def advance(plan, t, numbers, key, x, steps, own, table, uniform, u, v, spike):
    """One step from the membrane `u` to `v`, `spike` and the new `u`."""
    threshold, gain = np.float32(plan.threshold), np.float32(plan.gain)
    hard, drop = np.float32(plan.hard), np.float32(plan.jump)
    passes.integrate(x, own[0], own[1], gain, steps[1, t], steps[0, t], u, v)
    if plan.firing == NONE:
        passes.fire(v, threshold, hard, drop, spike, u)
        return
    sharpness = np.float32(plan.noise_sharpness)
    passes.firing_probability(v, threshold, sharpness, table, spike)
    if plan.firing == DRAW:
        if t % 4 == 0:
            draw_quad(key, numbers, t // 4, plan.noise_layer, SPIKE, uniform)
        passes.less(uniform[t % 4], spike, spike)
    passes.reset(v, spike, hard, drop, u)


@kernel
def spiking_forward(
    start,
    stop,
    plan,
    current,  # [T or 1, B, N], float32 or bits of half precision
    steps,  # float32 [2, T]: decay and input gain of each step
    neurons,  # float32 [3, N]: scale, shift and gate probability; [3, BLOCK] if all the same
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
    gate_draws, spike_draws = np.empty((4, BLOCK), np.float32), np.empty((4, BLOCK), np.float32)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        own = own_rows(neurons, N, first, n)
        u, v, total = work[0, :n], work[1, :n], work[2, :n]
        start_membrane(plan, u)
        passes.fill(np.float32(0), total)
        for t in range(T):
            x, spike = as_float(pick(current, t)[b, here], work[3]), work[4, :n]
            advance(
                plan, t, order[here], keys[1, b], x, steps, own, table, spike_draws, u, v, spike
            )  # fmt: skip
            if plan.zoning == FIRED:
                passes.mark_fired(spike, zone[0, b, here])
            elif plan.zoning == MEAN:
                gain = np.float32(plan.gain)
                passes.add_drive(x, own[0], own[1], gain, steps[1, t], total)
            elif plan.zoning == CODE:
                threshold, sharpness = np.float32(plan.threshold), np.float32(plan.sharpness)
                passes.encode(v, spike, threshold, sharpness, zone[t, b, here])
            if plan.gating == DRAW:
                if t % 4 == 0:
                    draw_quad(keys[0, b], order[here], t // 4, plan.layer, GATE, gate_draws)
                passes.less(gate_draws[t % 4], own[2], v)
                passes.multiply(spike, v, spike)
            elif plan.gating == AVERAGE:
                passes.multiply(spike, own[2], spike)
            passes.copy(spike, out[t, b, here])
        if plan.zoning == MEAN:
            lower, upper = np.float32(plan.lower_edge), np.float32(plan.upper_edge)
            passes.mark_mean(total, T, lower, upper, zone[0, b, here])


@kernel
def membrane_trace(
    start,
    stop,
    plan,
    current,
    steps,
    neurons,
    keys,
    order,
    table,
    out,  # float32 [T, B, N]: membrane minus threshold
    sources=SOURCES,
):
    N = out.shape[2]
    threshold = np.float32(plan.threshold)
    blocks = (N + BLOCK - 1) // BLOCK
    work, uniform = np.empty((4, BLOCK), np.float32), np.empty((4, BLOCK), np.float32)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        own = own_rows(neurons, N, first, n)
        u, v, spike = work[0, :n], work[1, :n], work[2, :n]
        start_membrane(plan, u)
        for t in range(plan.steps):
            x = as_float(pick(current, t)[b, here], work[3])
            advance(plan, t, order[here], keys[1, b], x, steps, own, table, uniform, u, v, spike)
            passes.subtract(v, threshold, out[t, b, here])
