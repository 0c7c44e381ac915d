"""Backward kernel: recomputes the membranes of a block of neurons, then goes back in time."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import SOURCES, helper, kernel
from robust_snn.kernels.numba_tools.half_precision import as_float
from robust_snn.kernels.numba_tools.shares import run_shares
from robust_snn.kernels.numba_tools.vectors import prefetch
from robust_snn.kernels.spiking.codes import Randomness, Saved, Time
from robust_snn.kernels.spiking.numba import block_ops
from robust_snn.kernels.spiking.numba.forward import (
    GATE,
    advance,
    drive_at,
    pick,
    start_membrane,
)
from robust_snn.kernels.spiking.numba.own_numbers import (
    decay_at,
    edge_at,
    start_thresholds,
    threshold_at,
)
from robust_snn.kernels.spiking.numba.philox import SPARE, philox_quad
from robust_snn.kernels.spiking.numba.slopes import fill_slopes, step_back_triangle

_ONE = np.float32(1)


@helper
def _through_gate(args, t, numbers, key, g, spike, probability, words, e, grad_probability):
    """The gradient on spikes, given that on gated spikes: in `e`, or `g` itself."""
    if args.gating == Randomness.NONE:
        return g
    if args.gating == Randomness.DRAW:
        if t == args.steps - 1 or t % 4 == 3:
            philox_quad(key, numbers, t // 4, args.gate_layer, GATE, words)
        block_ops.keep_below(words[t % 4], probability, g, e)
        if grad_probability.size > 0:
            block_ops.add_relaxed_gate(g, spike, words[t % 4], probability, grad_probability)
        return e
    block_ops.multiply(g, probability, e)
    if grad_probability.size > 0:
        block_ops.add_product(g, spike, grad_probability)
    return e


@helper
def _reset_path(args):
    """Gradient of the membrane after the reset on the spike: a constant and a factor of `v`."""
    if args.detach_reset:
        return np.float32(0), np.float32(0)
    return np.float32(args.reset_value), np.float32(-1.0 if args.hard else 0.0)


@helper
def _through_step(args, decay, threshold, e, v, spike, slope, carried, grad):
    """One step of the exact recursion, with the reset's own path unless it is detached."""
    cross, cross_v = _reset_path(args)
    if args.firing == Randomness.NONE:
        block_ops.step_back(e, slope, v, threshold, args.hard, cross, cross_v, decay, carried, grad)
    else:
        hard = np.float32(args.hard)
        block_ops.step_back_noisy(e, slope, v, spike, hard, cross, cross_v, decay, carried, grad)


@helper
def _through_triangle(args, decay, threshold, e, v, carried, factor, scale, out):
    """`_through_step` for the default surrogate without noise; see `step_back_triangle`."""
    cross, cross_v = _reset_path(args)
    sharpness, floor = np.float32(args.surrogate_sharpness), np.float32(args.surrogate_floor)
    height = np.float32(args.surrogate_scale) * sharpness
    step_back_triangle(
        e, v, threshold, sharpness, height, floor, args.hard, cross, cross_v, decay, carried,
        factor, scale, out,
    )  # fmt: skip


@helper
def _to_inputs(args, t, task, b, here, grad, current, steps, affine, befores, wide, outputs):
    """Passes the gradient on the drive of step `t` to the current, the affine, gains and leaks."""
    grad_current, grad_affine, grad_steps, grad_leaks = outputs
    step_gain = np.float32(args.gain) * steps[1, t]
    if grad_affine.size > 0:
        x = as_float(pick(current, t)[b, here], wide)
        block_ops.add_affine_gradient(
            grad, x, step_gain, grad_affine[0, b, here], grad_affine[1, b, here]
        )
    if grad_steps.size > 0:
        x = as_float(pick(current, t)[b, here], wide)
        x = drive_at(args, x, affine, here, _ONE, wide[: grad.size])
        grad_steps[task, 1, t] = block_ops.dot(grad, x)
        if args.time == Time.RECURSION:
            grad_steps[task, 0, t] = block_ops.dot(grad, befores[t, : grad.size])
    if grad_leaks.size > 0:
        block_ops.multiply(grad, befores[t, : grad.size], grad_leaks[t, b, here])
    if grad_current.shape[0] > 1:
        out = grad_current[t, b, here]
        if affine.shape[1] > 0:
            block_ops.put_products(grad, affine[0, here], step_gain, out)
        else:
            block_ops.put_multiple(grad, step_gain, out)
        return
    if affine.shape[1] > 0:
        scaled = wide[: grad.size]
        block_ops.multiply(grad, affine[0, here], scaled)
        grad = scaled
    block_ops.add_multiple(grad, step_gain, grad_current[0, b, here])


@kernel
def spiking_backward(shares, tasks, arguments, sources=SOURCES):
    """Gradients of any layer; the arguments are those of `_backward_blocks`."""
    return run_shares(_backward_blocks, shares, tasks, arguments)


@helper
def _backward_blocks(
    start,
    stop,
    block,  # neurons that go through time together
    args,
    upstream,  # [T or 1, B, N], float32 or bits of half precision
    current,  # the same, or [0, B, N] if nothing is recomputed
    saved_bytes,  # uint8 [1 or T, B, N], or [0, B, N]; see `Saved`
    sharpness_map,  # float32 [T or 1, B or 1, N], [0, 0, 0] if all the same, or None
    steps,  # float32 [2, T]: decay and input gain of each step
    affine,  # float32 [2, N]: scale and shift, or [2, 0]
    leaks,  # as in the forward pass, like `own`
    own,
    probability,  # float32 [N]: of the gates to open, or None
    keys,  # int64 [2, B]: of the gate and of the membrane noise
    neurons,  # uint32 [N + SPARE]: number of each neuron in the random stream
    firing_table,  # float32: firing probabilities of the membrane noise, or None
    grad_current,  # [T, B, N] in the type of upstream, or float32 zeros [1, B, N]
    grad_affine,  # float32 [2, B, N], zeros, or [2, B, 0]
    grad_probability,  # float32 [B, N], zeros, or [B, 0]
    grad_steps,  # float64 [blocks, 2, T], zeros, or [0, 2, T]
    grad_leaks,  # float32 [T, B, N], or [0, B, N]
    grad_rates,  # float32 [B, N], zeros, or None where thresholds do not adapt
):
    T, N = args.steps, grad_current.shape[2]
    blocks = (N + block - 1) // block
    outputs = grad_current, grad_affine, grad_steps, grad_leaks
    keeps = args.firing != Randomness.NONE or grad_probability.size > 0
    vs = np.empty((T + 1, block), np.float32)  # from before the first step on
    # without noise a spike follows from its membrane, and none is read again
    spikes = np.empty((T if keeps else 1, block), np.float32)
    by_step = grad_steps.size > 0 or grad_leaks.size > 0
    befores = np.empty((T if by_step else 0, block), np.float32)
    # the recursion needs membranes and nothing else
    bare = not keeps and not by_step and grad_rates is None
    direct = grad_affine.size == 0 and not by_step and grad_current.shape[0] > 1
    reset_value = np.float32(args.reset_value)
    thresholds = np.empty((0 if grad_rates is None else T + 1, block), np.float32)
    work, words = np.empty((10, block), np.float32), np.empty((4, block + SPARE), np.uint32)
    for task in range(start, stop):
        b, first = task // blocks, task % blocks * block
        n = min(block, N - first)
        here = slice(first, first + n)
        numbers = neurons[first : first + n + SPARE]
        u, slope, e, sharp = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
        carried, grad = work[4, :n], work[5, :n]
        start_membrane(args, u)
        start_membrane(args, vs[0, :n])
        start_thresholds(args, own, work[9, :n])
        if current.shape[0] > 0:
            for t in range(T):
                x = as_float(pick(current, t)[b, here], work[6])
                x = drive_at(args, x, affine, here, steps[1, t], work[6, :n])
                v, spike = vs[t + 1, :n], pick(spikes, t)[:n]
                decay = decay_at(args, steps, leaks, t, b, here, work[8, :n])
                threshold = threshold_at(args, own, t, here, work[9, :n])
                if t + 1 < T:
                    prefetch(pick(current, t + 1)[b, here])
                else:
                    prefetch(pick(upstream, t)[b, here])
                if bare:
                    block_ops.leak_from(x, decay, threshold, args.hard, reset_value, vs[t, :n], v)
                    continue
                if by_step:
                    block_ops.copy(u, befores[t, :n])
                if firing_table is None:
                    block_ops.leak_and_fire(
                        x, decay, threshold, args.hard, reset_value, u, v, spike
                    )
                else:
                    advance(
                        args, t, decay, threshold, numbers, keys[1, b], x, firing_table, words,
                        u, v, spike,
                    )  # fmt: skip
                if grad_rates is not None:
                    block_ops.copy(work[9, :n], thresholds[t, :n])
        elif args.saves == Saved.MEMBRANE:
            sharpest = np.float32(args.surrogate_sharpness)
            for t in range(T):
                v, spike = vs[t + 1, :n], pick(spikes, t)[:n]
                middle = np.float32(args.threshold)
                block_ops.decode(saved_bytes[t, b, here], middle, sharpest, v, spike)
        block_ops.fill(np.float32(0), carried)
        if grad_rates is not None:
            block_ops.fill(np.float32(0), work[9, :n])
        block_ops.fill(np.float32(args.surrogate_sharpness), sharp)
        for t in range(T - 1, -1, -1):
            v, spike = vs[t + 1, :n], pick(spikes, t)[:n]
            g = as_float(pick(upstream, t)[b, here], work[7])
            decay = decay_at(args, steps, leaks, t, b, here, work[8, :n])
            if t > 0:
                prefetch(pick(upstream, t - 1)[b, here])
                prefetch(pick(grad_current, t - 1)[b, here])
            if probability is not None:
                g = _through_gate(
                    args, t, numbers, keys[0, b], g, spike, probability[here], words, e,
                    grad_probability[b, here],
                )  # fmt: skip
            if args.time == Time.RATE_SLOPE:
                lower, upper = np.float32(args.lower_slope), np.float32(args.upper_slope)
                block_ops.pick_slope(g, saved_bytes[0, b, here], lower, upper, grad)
            if sharpness_map is None:  # decided when compiling: no other surrogate is compiled
                edge = threshold_at(args, own, t, here, work[9, :n])
                if args.time == Time.RECURSION and direct:
                    factor = np.float32(args.gain) * steps[1, t]
                    scale, out = affine[0, here], grad_current[t, b, here]
                    _through_triangle(args, decay, edge, g, v, carried, factor, scale, out)
                    continue
                if args.time == Time.RECURSION:
                    none = sharp[:0]
                    _through_triangle(args, decay, edge, g, v, carried, _ONE, none, grad)
            elif args.time != Time.RATE_SLOPE:
                if sharpness_map.size > 0:
                    row = pick(sharpness_map, t)
                    block_ops.copy(row[b if row.shape[0] > 1 else 0, here], sharp)
                edge = edge_at(args, own, t, here, thresholds)
                fill_slopes(args, v, edge, sharp, slope)
                if args.time == Time.AVERAGE:
                    block_ops.add_product(g, slope, carried)
                elif grad_rates is None:
                    _through_step(args, decay, edge, g, v, spike, slope, carried, grad)
                else:
                    cross, cross_v = _reset_path(args)
                    adapting = work[9, :n], grad_rates[b, here]
                    block_ops.step_back_adapting(
                        g, slope, v, edge, own, t, here, args.hard, cross, cross_v, decay, carried,
                        adapting, grad,
                    )  # fmt: skip
            if args.time != Time.AVERAGE:
                _to_inputs(
                    args, t, task, b, here, grad, current, steps, affine, befores, work[6], outputs
                )
        if sharpness_map is not None and args.time == Time.AVERAGE:
            for j in range(n):
                grad[j] = carried[j] / np.float32(T)
            for t in range(T):
                _to_inputs(
                    args, t, task, b, here, grad, current, steps, affine, befores, work[6], outputs
                )
