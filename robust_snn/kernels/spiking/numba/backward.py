"""Backward kernel: recomputes the membranes of a block of neurons and walks back through time."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.spiking.numba import passes
from robust_snn.kernels.spiking.numba.compile import SOURCES, device, kernel
from robust_snn.kernels.spiking.numba.draws import draw_quad
from robust_snn.kernels.spiking.numba.forward import (
    BLOCK,
    DRAW,
    GATE,
    advance,
    pick,
    start_membrane,
)
from robust_snn.kernels.spiking.numba.slopes import fill_slopes

EXACT = 0  # of `Back`


@device
def _through_gate(plan, key, first, t, g, spike, probability, uniform, open_, e, grad_probability):
    """Turns the gradient `g` on gated spikes into `e` on spikes."""
    if plan.gating == 0:
        passes.copy(g, e)
    elif plan.gating == DRAW:
        if t == plan.steps - 1 or t % 4 == 3:
            draw_quad(key, first, t // 4, plan.layer, GATE, uniform)
        passes.open_gate(uniform[t % 4], probability, open_)
        passes.multiply(g, open_, e)
        if grad_probability.size > 0:
            passes.add_relaxed_gate(g, spike, uniform[t % 4], probability, grad_probability)
    else:
        passes.multiply(g, probability, e)
        if grad_probability.size > 0:
            passes.add_product(g, spike, grad_probability)


@device
def _through_step(plan, decay, e, v, spike, slope, carried, grad):
    """One step of the exact recursion, with the reset's own path unless it is detached."""
    cross, cross_v = 0.0, 0.0
    if not plan.detach_reset:
        cross, cross_v = (plan.v_reset, -1.0) if plan.hard else (-plan.threshold, 0.0)
    passes.step_back(
        e,
        slope,
        spike,
        v,
        np.float32(plan.hard),
        np.float32(cross),
        np.float32(cross_v),
        decay,
        carried,
        grad,
    )


@kernel
def spiking_backward(
    start,
    stop,
    plan,
    upstream,  # float32 [T or 1, B, N]
    current,  # float32 [T or 1, B, N], or [0, B, N] if nothing is recomputed
    rate,  # float32 [B, N] slope of a rate rule, or empty
    steps,  # float32 [2, T]: decay and input gain of each step
    neurons,  # float32 [3, N]: scale, shift and gate probability; [3, BLOCK] if all the same
    keys,  # int64 [B]
    grad_current,  # float32 [T, B, N], or zeros [1, B, N]
    grad_affine,  # float32 [2, B, N], zeros, or [2, B, 0]
    grad_probability,  # float32 [B, N], zeros, or [B, 0]
    grad_steps,  # float64 [blocks, 2, T], zeros, or [0, 2, T]
    sources=SOURCES,
):
    T, N = plan.steps, grad_current.shape[2]
    threshold, gain = np.float32(plan.threshold), np.float32(plan.gain)
    blocks = (N + BLOCK - 1) // BLOCK
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        own = neurons[:, here] if neurons.shape[1] == N else neurons[:, :n]
        scale, shift, probability = own[0], own[1], own[2]
        v, spike = np.zeros((T, n), np.float32), np.zeros((T, n), np.float32)
        u = start_membrane(plan, n)
        before = np.empty((T if grad_steps.size > 0 else 0, n), np.float32)
        if current.shape[0] > 0:
            for t in range(T):
                if grad_steps.size > 0:
                    passes.copy(u, before[t])
                x = pick(current, t)[b, here]
                advance(plan, steps, t, x, scale, shift, u, v[t], spike[t])
        carried, grad = np.zeros(n, np.float32), np.empty(n, np.float32)
        slope, e = np.empty(n, np.float32), np.empty(n, np.float32)
        uniform = np.empty((4, n), np.float32)
        sharpness = np.full(n, np.float32(plan.sharpness), np.float32)
        for t in range(T - 1, -1, -1):
            _through_gate(
                plan, keys[b], first, t, pick(upstream, t)[b, here], spike[t], probability,
                uniform, slope, e, grad_probability[b, here],
            )  # fmt: skip
            if plan.back == EXACT:
                passes.subtract(v[t], threshold, u)
                fill_slopes(plan.family, u, sharpness, np.float32(plan.peak), slope)
                _through_step(plan, steps[0, t], e, v[t], spike[t], slope, carried, grad)
            else:
                passes.multiply(e, rate[b, here], grad)
            step_gain = gain * steps[1, t]
            if grad_current.shape[0] > 1:
                passes.chain_to_current(grad, scale, step_gain, grad_current[t, b, here])
            else:
                passes.add_to_current(grad, scale, step_gain, grad_current[0, b, here])
            if grad_affine.size > 0:
                passes.add_affine_gradient(
                    grad, pick(current, t)[b, here], step_gain, grad_affine[:, b, here]
                )
            if grad_steps.size > 0:
                drive = passes.dot_drive(grad, pick(current, t)[b, here], scale, shift, gain)
                grad_steps[task, 1, t] = drive
                if plan.back == EXACT:
                    grad_steps[task, 0, t] = passes.dot(grad, before[t])
