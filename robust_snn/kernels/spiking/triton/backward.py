"""Backward kernel: recomputes the membranes of a block into registers, then goes back in time."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import triton
import triton.language as tl

from robust_snn.kernels.spiking.triton.codes import (
    AVERAGE,
    DRAW,
    GATE,
    MEAN,
    NONE,
    RATE_SLOPE,
    RECURSION,
    SPIKE,
)
from robust_snn.kernels.spiking.triton.forward import drive_at, fire, load_own, load_step
from robust_snn.kernels.spiking.triton.philox import philox_quad
from robust_snn.kernels.spiking.triton.slopes import relaxed_gate_slope, slope_at


@triton.jit
def _to_inputs(
    grad,
    t: tl.constexpr,
    x,
    own,
    gain,
    steps,
    totals,
    grad_current,
    grad_steps,
    sample,
    stride,
    mask,
    T: tl.constexpr,
    SUMMED: tl.constexpr,
    GAINS: tl.constexpr,
    WANTS_AFFINE: tl.constexpr,
    WANTS_GAINS: tl.constexpr,
):
    """Passes the gradient on the drive of step `t` to the current, the affine and the gains."""
    step_gain = gain
    if GAINS:
        step_gain = gain * tl.load(steps + T + t)
    current_total, scale_total, shift_total = totals[0], totals[1], totals[2]
    reached = step_gain * grad
    if SUMMED:
        current_total += reached * own[0]
    else:
        tl.store(grad_current + t * stride + sample, reached * own[0], mask=mask)
    if WANTS_AFFINE:
        scale_total += reached * x
        shift_total += reached
    if WANTS_GAINS:
        block = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        drive = gain * (x * own[0] + own[1])
        amount = tl.sum(tl.where(mask, grad * drive, 0.0))
        tl.store(grad_steps + block.to(tl.int64) * 2 * T + T + t, amount)
    return current_total, scale_total, shift_total


@triton.jit(do_not_specialize=["gate_layer", "noise_layer"])
def spiking_backward(
    upstream,  # [T or 1, B, N]
    current,  # [T or 1, B, N]
    saved_bytes,  # uint8 [1 or T, B, N]; see `Saved`
    sharpness_map,  # float32 [T or 1, B or 1, N]
    steps,  # float32 [2, T]
    affine,  # float32 [2, N]
    probability,  # float32 [N]
    keys,  # int64 [2, B]
    firing_table,  # float32 [INTERVALS + 1]
    grad_current,  # [T or 1, B, N]
    grad_affine,  # float32 [2, B, N]
    grad_probability,  # float32 [B, N]
    grad_steps,  # float32 [blocks, 2, T]
    N,
    sharpness_step,  # strides of the sharpness map
    sharpness_sample,
    decay,
    threshold,
    gain,
    reset_value,
    surrogate_sharpness,
    surrogate_scale,
    surrogate_floor,
    lower_slope,
    upper_slope,
    gate_layer,
    noise_sharpness,
    noise_layer,
    T: tl.constexpr,
    SINGLE: tl.constexpr,  # one current for all steps
    SUMMED: tl.constexpr,  # one gradient of the current, summed over the steps
    SINGLE_UPSTREAM: tl.constexpr,  # one gradient for all steps
    AFFINE: tl.constexpr,
    GAINS: tl.constexpr,
    HARD: tl.constexpr,
    TIME: tl.constexpr,
    DETACHED: tl.constexpr,
    SHAPE: tl.constexpr,
    MAPPED: tl.constexpr,  # sharpness comes from the map
    GATING: tl.constexpr,
    FIRING: tl.constexpr,
    RECOMPUTE: tl.constexpr,  # membranes come from the current
    FROM_BYTES: tl.constexpr,  # membranes come from the saved bytes
    WANTS_AFFINE: tl.constexpr,
    WANTS_GAINS: tl.constexpr,
    WANTS_PROBABILITY: tl.constexpr,
    INTERVALS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
    mask = offsets < N
    sample = b.to(tl.int64) * N + offsets
    stride = tl.num_programs(1).to(tl.int64) * N
    own = load_own(affine, probability, offsets, N, mask, AFFINE, GATING)
    zeros = tl.zeros([BLOCK], tl.float32)
    start = reset_value if HARD else 0.0
    u = zeros + start
    draws = (u, u, u, u)
    vs = ()
    spikes = ()
    before = ()
    xs = ()
    for t in tl.static_range(0, T):
        x = zeros
        v = zeros
        spike = zeros
        before = before + (u,)
        if RECOMPUTE:
            x = load_step(current, t, sample, stride, mask, SINGLE)
            leak = tl.load(steps + t) if GAINS else decay
            v = leak * u + drive_at(x, t, own, gain, steps, T, GAINS)
            if FIRING == DRAW and t % 4 == 0:
                key = tl.load(keys + tl.num_programs(1) + b)
                draws = philox_quad(key, offsets, noise_layer, t // 4, SPIKE)
            spike = fire(v - threshold, t, draws, noise_sharpness, firing_table, INTERVALS, FIRING)
            u = (1.0 - spike) * v + reset_value * spike if HARD else v + reset_value * spike
        elif FROM_BYTES:
            code = tl.load(saved_bytes + t * stride + sample, mask=mask, other=0).to(tl.int32)
            level = (code & 127).to(tl.float32)
            far = tl.maximum((127.0 - level) / 126.0, 1e-3) + (level == 0.0).to(tl.float32)
            v = threshold + tl.where(code > 127, far, -far) / surrogate_sharpness
        xs = xs + (x,)
        vs = vs + (v,)
        spikes = spikes + (spike,)

    carried, probability_total = zeros, zeros
    totals = (zeros, zeros, zeros)
    rate = zeros
    if TIME == RATE_SLOPE:
        byte = tl.load(saved_bytes + sample, mask=mask, other=0)
        rate = tl.where(byte == 1, lower_slope, tl.where(byte == 2, upper_slope, 0.0))
    for t in tl.static_range(T - 1, -1, -1):
        e = load_step(upstream, t, sample, stride, mask, SINGLE_UPSTREAM)
        # A sharp spike is recomputed, which keeps the membranes alone in registers.
        spike = spikes[t] if FIRING != NONE else (vs[t] - threshold >= 0.0).to(tl.float32)
        if GATING == DRAW:
            if t == T - 1 or t % 4 == 3:
                draws = philox_quad(tl.load(keys + b), offsets, gate_layer, t // 4, GATE)
            if WANTS_PROBABILITY:
                probability_total += e * spike * relaxed_gate_slope(own[2], draws[t % 4])
            e = e * (draws[t % 4] < own[2]).to(tl.float32)
        if GATING == MEAN:
            if WANTS_PROBABILITY:
                probability_total += e * spike
            e = e * own[2]
        grad = e * rate
        if TIME != RATE_SLOPE:
            sharp = surrogate_sharpness
            if MAPPED:
                place = t * sharpness_step + b.to(tl.int64) * sharpness_sample + offsets
                sharp = tl.load(sharpness_map + place, mask=mask, other=1.0)
            slope = slope_at(vs[t] - threshold, sharp, surrogate_scale, surrogate_floor, SHAPE)
            if TIME == AVERAGE:
                carried += e * slope
            else:
                kept = (1.0 - spike) * carried if HARD else carried
                if not DETACHED:
                    e += (reset_value - vs[t] if HARD else reset_value) * carried
                grad = kept + slope * e
                carried = (tl.load(steps + t) if GAINS else decay) * grad
        if WANTS_GAINS and TIME == RECURSION:
            block = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
            amount = tl.sum(tl.where(mask, grad * before[t], 0.0))
            tl.store(grad_steps + block.to(tl.int64) * 2 * T + t, amount)
        if TIME != AVERAGE:
            totals = _to_inputs(
                grad, t, xs[t], own, gain, steps, totals, grad_current, grad_steps, sample,
                stride, mask, T, SUMMED, GAINS, WANTS_AFFINE, WANTS_GAINS,
            )  # fmt: skip
    if TIME == AVERAGE:
        merged = carried / T
        for t in tl.static_range(0, T):
            totals = _to_inputs(
                merged, t, xs[t], own, gain, steps, totals, grad_current, grad_steps, sample,
                stride, mask, T, SUMMED, GAINS, WANTS_AFFINE, WANTS_GAINS,
            )  # fmt: skip
    if SUMMED:
        tl.store(grad_current + sample, totals[0], mask=mask)
    if WANTS_AFFINE:
        tl.store(grad_affine + sample, totals[1], mask=mask)
        tl.store(grad_affine + stride + sample, totals[2], mask=mask)
    if WANTS_PROBABILITY:
        tl.store(grad_probability + sample, probability_total, mask=mask)
