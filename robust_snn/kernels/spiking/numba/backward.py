"""Backward kernel: recomputes the membranes of a block of neurons and walks back through time."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import SOURCES, device, kernel
from robust_snn.kernels.numba_tools.half_precision import as_float
from robust_snn.kernels.spiking.numba import block_ops as passes
from robust_snn.kernels.spiking.numba.forward import (
    BLOCK,
    CODE,
    DRAW,
    GATE,
    NONE,
    advance,
    drive_at,
    pick,
    start_membrane,
)
from robust_snn.kernels.spiking.numba.philox import draw_quad
from robust_snn.kernels.spiking.numba.slopes import fill_slopes, step_back_triangle

_ONE = np.float32(1)
EXACT, RATE, MERGED = 0, 1, 2  # of `Back`


@device
def _through_gate(plan, t, numbers, key, g, spike, probability, words, e, grad_probability):
    """The gradient on spikes, given that on gated spikes: in `e`, or `g` itself."""
    if plan.gating == NONE:
        return g
    if plan.gating == DRAW:
        if t == plan.steps - 1 or t % 4 == 3:
            draw_quad(key, numbers, t // 4, plan.layer, GATE, words)
        passes.keep_below(words[t % 4], probability, g, e)
        if grad_probability.size > 0:
            passes.add_relaxed_gate(g, spike, words[t % 4], probability, grad_probability)
        return e
    passes.multiply(g, probability, e)
    if grad_probability.size > 0:
        passes.add_product(g, spike, grad_probability)
    return e


@device
def _reset_path(plan):
    """Gradient of the membrane after the reset on the spike: a constant and a factor of `v`."""
    if plan.detach_reset:
        return np.float32(0), np.float32(0)
    return np.float32(plan.jump), np.float32(-1.0 if plan.hard else 0.0)


@device
def _through_step(plan, decay, e, v, spike, slope, carried, grad):
    """One step of the exact recursion, with the reset's own path unless it is detached."""
    cross, cross_v = _reset_path(plan)
    if plan.firing == NONE:
        threshold = np.float32(plan.threshold)
        passes.step_back(e, slope, v, threshold, plan.hard, cross, cross_v, decay, carried, grad)
    else:
        hard = np.float32(plan.hard)
        passes.step_back_noisy(e, slope, v, spike, hard, cross, cross_v, decay, carried, grad)


@device
def _through_triangle(plan, decay, e, v, carried, factor, scale, out):
    """`_through_step` for the default surrogate without noise; see `step_back_triangle`."""
    cross, cross_v = _reset_path(plan)
    sharpness = np.float32(plan.sharpness)
    step_back_triangle(
        e, v, np.float32(plan.threshold), sharpness, np.float32(plan.peak) * sharpness,
        np.float32(plan.floor), plan.hard, cross, cross_v, decay, carried, factor, scale, out,
    )  # fmt: skip


@device
def _to_inputs(plan, t, task, b, here, grad, current, steps, affine, befores, wide, outputs):
    """Passes the gradient on the drive of step `t` to the current, the affine and the gains."""
    grad_current, grad_affine, grad_steps = outputs
    step_gain = np.float32(plan.gain) * steps[1, t]
    if grad_affine.size > 0:
        x = as_float(pick(current, t)[b, here], wide)
        passes.add_affine_gradient(
            grad, x, step_gain, grad_affine[0, b, here], grad_affine[1, b, here]
        )
    if grad_steps.size > 0:
        x = as_float(pick(current, t)[b, here], wide)
        x = drive_at(plan, x, affine, here, _ONE, wide[: grad.size])
        grad_steps[task, 1, t] = passes.dot(grad, x)
        if plan.back == EXACT:
            grad_steps[task, 0, t] = passes.dot(grad, befores[t, : grad.size])
    if grad_current.shape[0] > 1:
        out = grad_current[t, b, here]
        if affine.shape[1] > 0:
            passes.put_products(grad, affine[0, here], step_gain, out)
        else:
            passes.put_multiple(grad, step_gain, out)
        return
    if affine.shape[1] > 0:
        scaled = wide[: grad.size]
        passes.multiply(grad, affine[0, here], scaled)
        grad = scaled
    passes.add_multiple(grad, step_gain, grad_current[0, b, here])


@kernel
def spiking_backward(
    start,
    stop,
    plan,
    upstream,  # [T or 1, B, N], float32 or bits of half precision
    current,  # the same, or [0, B, N] if nothing is recomputed
    zone,  # uint8 [1, B, N] of a rate rule, [T, B, N] of a compact one, or [0, B, N]
    sharpness,  # float32 [T or 1, B or 1, N] of the surrogate, [0, 0, 0] if all the same, or None
    steps,  # float32 [2, T]: decay and input gain of each step
    affine,  # float32 [2, N]: scale and shift, or [2, 0]
    probability,  # float32 [N]: of the gates to open, or None
    keys,  # int64 [2, B]: of the gate and of the noise
    order,  # uint32 [N]: number of each neuron in the random stream
    table,  # float32: distribution of the noise, or None
    grad_current,  # [T, B, N] in the type of upstream, or float32 zeros [1, B, N]
    grad_affine,  # float32 [2, B, N], zeros, or [2, B, 0]
    grad_probability,  # float32 [B, N], zeros, or [B, 0]
    grad_steps,  # float64 [blocks, 2, T], zeros, or [0, 2, T]
    sources=SOURCES,
):
    T, N = plan.steps, grad_current.shape[2]
    blocks = (N + BLOCK - 1) // BLOCK
    outputs = grad_current, grad_affine, grad_steps
    vs = np.empty((T + 1, BLOCK), np.float32)  # from before the first step on
    # without noise a spike follows from its membrane, and none is read again
    keeps = plan.firing != NONE or grad_probability.size > 0
    spikes = np.empty((T if keeps else 1, BLOCK), np.float32)
    befores = np.empty((T if grad_steps.size > 0 else 0, BLOCK), np.float32)
    bare = not keeps and grad_steps.size == 0  # the recursion needs membranes and nothing else
    direct = grad_affine.size == 0 and grad_steps.size == 0 and grad_current.shape[0] > 1
    threshold, drop = np.float32(plan.threshold), np.float32(plan.jump)
    work, words = np.empty((8, BLOCK), np.float32), np.empty((4, BLOCK), np.uint32)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, N - first)
        here = slice(first, first + n)
        numbers = order[here]
        u, slope, e, sharp = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
        carried, grad = work[4, :n], work[5, :n]
        start_membrane(plan, u)
        start_membrane(plan, vs[0, :n])
        if current.shape[0] > 0:
            for t in range(T):
                x = as_float(pick(current, t)[b, here], work[6])
                x = drive_at(plan, x, affine, here, steps[1, t], work[6, :n])
                v, spike, decay = vs[t + 1, :n], pick(spikes, t)[:n], steps[0, t]
                if bare:
                    passes.leak_from(x, decay, threshold, plan.hard, drop, vs[t, :n], v)
                    continue
                if grad_steps.size > 0:
                    passes.copy(u, befores[t, :n])
                if table is None:
                    passes.leak_and_fire(x, decay, threshold, plan.hard, drop, u, v, spike)
                else:
                    advance(plan, t, decay, numbers, keys[1, b], x, table, words, u, v, spike)
        elif plan.zoning == CODE:
            sharpest = np.float32(plan.sharpness)
            for t in range(T):
                v, spike = vs[t + 1, :n], pick(spikes, t)[:n]
                passes.decode(zone[t, b, here], threshold, sharpest, v, spike)
        passes.fill(np.float32(0), carried)
        passes.fill(np.float32(plan.sharpness), sharp)
        for t in range(T - 1, -1, -1):
            v, spike = vs[t + 1, :n], pick(spikes, t)[:n]
            g = as_float(pick(upstream, t)[b, here], work[7])
            if probability is not None:
                g = _through_gate(
                    plan, t, numbers, keys[0, b], g, spike, probability[here], words, e,
                    grad_probability[b, here],
                )  # fmt: skip
            if plan.back == RATE:
                lower, upper = np.float32(plan.lower_slope), np.float32(plan.upper_slope)
                passes.pick_slope(g, zone[0, b, here], lower, upper, grad)
            if sharpness is None:  # decided when compiling: no other surrogate is compiled
                if plan.back == EXACT and direct:
                    factor = np.float32(plan.gain) * steps[1, t]
                    scale, out = affine[0, here], grad_current[t, b, here]
                    _through_triangle(plan, steps[0, t], g, v, carried, factor, scale, out)
                    continue
                if plan.back == EXACT:
                    _through_triangle(plan, steps[0, t], g, v, carried, _ONE, sharp[:0], grad)
            elif plan.back != RATE:
                if sharpness.size > 0:
                    row = pick(sharpness, t)
                    passes.copy(row[b if row.shape[0] > 1 else 0, here], sharp)
                fill_slopes(plan, v, sharp, slope)
                if plan.back == EXACT:
                    _through_step(plan, steps[0, t], g, v, spike, slope, carried, grad)
                else:
                    passes.add_product(g, slope, carried)
            if plan.back != MERGED:
                _to_inputs(
                    plan, t, task, b, here, grad, current, steps, affine, befores, work[6], outputs
                )
        if sharpness is not None and plan.back == MERGED:
            for j in range(n):
                grad[j] = carried[j] / np.float32(T)
            for t in range(T):
                _to_inputs(
                    plan, t, task, b, here, grad, current, steps, affine, befores, work[6], outputs
                )
