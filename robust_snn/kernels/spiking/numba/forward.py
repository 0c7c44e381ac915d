"""Forward kernel: takes a block of neurons through all time steps."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.spiking.numba import passes
from robust_snn.kernels.spiking.numba.compile import SOURCES, device, kernel
from robust_snn.kernels.spiking.numba.draws import draw_quad

BLOCK = 512  # neurons; eight steps of their membranes fill half of a first-level cache
DRAW = 1  # of `Gating`
GATE = 1  # of `Purpose`


@device
def pick(stack, t):
    """The slice of step `t`; a stack of one stands for all steps."""
    return stack[t if stack.shape[0] > 1 else 0]


@device
def start_membrane(plan, n):
    return np.full(n, np.float32(plan.v_reset if plan.hard else 0.0), np.float32)


@device
def advance(plan, steps, t, x, scale, shift, u, v, spike):
    """One step from the membrane `u` to `v`, `spike` and the new `u`."""
    threshold = np.float32(plan.threshold)
    passes.integrate(x, scale, shift, np.float32(plan.gain), steps[1, t], steps[0, t], u, v)
    passes.fire(v, threshold, spike)
    passes.reset(v, spike, plan.hard, np.float32(plan.v_reset), threshold, u)


@kernel
def spiking_forward(
    start,
    stop,
    plan,
    current,  # float32 [T or 1, B, N]
    steps,  # float32 [2, T]: decay and input gain of each step
    neurons,  # float32 [3, N]: scale, shift and gate probability; [3, BLOCK] if all the same
    keys,  # int64 [B]
    out,  # float32 [T, B, N]
    fired,  # bool [B, N], or empty
    sources=SOURCES,
):
    T, _, N = out.shape
    blocks = (N + BLOCK - 1) // BLOCK
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        own = neurons[:, here] if neurons.shape[1] == N else neurons[:, :n]
        scale, shift, probability = own[0], own[1], own[2]
        u, v, spike = start_membrane(plan, n), np.empty(n, np.float32), np.empty(n, np.float32)
        uniform = np.empty((4, n), np.float32)
        for t in range(T):
            advance(plan, steps, t, pick(current, t)[b, here], scale, shift, u, v, spike)
            if fired.size > 0:
                passes.mark(spike, fired[b, here])
            if plan.gating == 0:
                passes.copy(spike, out[t, b, here])
            elif plan.gating == DRAW:
                if t % 4 == 0:
                    draw_quad(keys[b], first, t // 4, plan.layer, GATE, uniform)
                passes.open_gate(uniform[t % 4], probability, v)
                passes.multiply(spike, v, out[t, b, here])
            else:
                passes.multiply(spike, probability, out[t, b, here])
