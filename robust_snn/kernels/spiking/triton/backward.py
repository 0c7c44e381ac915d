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
from robust_snn.kernels.spiking.triton.forward import (
    adapted,
    after_spike,
    block_of_neurons,
    distance,
    drive_at,
    fire,
    initial_membrane,
    leaked,
    load_own,
    load_step,
    neuron_numbers,
    of_sample,
    scaled,
    sharp_spike,
)
from robust_snn.kernels.spiking.triton.philox import philox_quad
from robust_snn.kernels.spiking.triton.slopes import relaxed_gate_slope, slope_at


@triton.jit
def _to_inputs(
    grad,
    t: tl.constexpr,
    x,
    own,
    gain,
    input_gain,
    totals,
    grad_current,
    grad_gains,
    sample,
    grad_affine,
    stride,
    mask,
    T: tl.constexpr,
    SUMMED: tl.constexpr,
):
    """Passes the gradient on the drive of step `t` to the current, the affine and the gains."""
    current_total, scale_total, shift_total = totals[0], totals[1], totals[2]
    reached = scaled(grad, gain)
    if input_gain is not None:
        reached = scaled(tl.load(input_gain + t), gain) * grad
    if SUMMED:
        current_total += reached * own[0]
    else:
        tl.store(grad_current + t * stride + sample, reached * own[0], mask=mask)
    if grad_affine is not None:
        scale_total += reached * x
        shift_total += reached
    if grad_gains is not None:
        drive = scaled(x * own[0] + own[1], gain)
        amount = tl.sum(tl.where(mask, grad * drive, 0.0))
        tl.store(grad_gains + tl.program_id(0).to(tl.int64) * 2 * T + T + t, amount)
    return current_total, scale_total, shift_total


@triton.jit(do_not_specialize=["B", "gate_layer", "noise_layer"])
def spiking_backward(
    upstream,  # [T or 1, B, N]
    current,  # [T or 1, B, N], or None, as all that a layer need not have
    saved_bytes,  # uint8 [1 or T, B, N]; see `Saved`
    sharpness_map,  # float32 [T or 1, B or 1, N]
    scale,  # float32 [C]
    shift,  # float32 [C]
    membrane_gain,  # float32 [T]
    input_gain,  # float32 [T]
    probability,  # float32 [N], channels first
    gate_keys,  # int64 [B]
    noise_keys,  # int64 [B]
    firing_table,  # float32 [INTERVALS + 1]
    leaks,  # float32 [T or 1, B or 1, N]
    rate,  # float32 [N]
    usual,  # float32 [T, N]
    grad_current,  # [T or 1, B, N]
    grad_affine,  # float32 [2, B, N]
    grad_probability,  # float32 [B, N]
    grad_gains,  # float32 [programs, 2, T]
    grad_leaks,  # float32 [T, B, N]
    grad_rate,  # float32 [B, N]
    B,
    N,
    channels,
    pixels,
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
    leak_step,
    leak_sample,
    unit,
    T: tl.constexpr,
    SINGLE: tl.constexpr,  # one current for all steps
    LAST: tl.constexpr,  # channels lie last in memory
    SUMMED: tl.constexpr,  # one gradient of the current, summed over the steps
    SINGLE_UPSTREAM: tl.constexpr,  # one gradient for all steps
    HARD: tl.constexpr,
    TIME: tl.constexpr,
    DETACHED: tl.constexpr,
    SHAPE: tl.constexpr,
    GATING: tl.constexpr,
    FIRING: tl.constexpr,
    LEVELS: tl.constexpr,
    ADAPTS: tl.constexpr,
    RECOMPUTE: tl.constexpr,  # membranes come from the current
    FROM_BYTES: tl.constexpr,  # membranes come from the saved bytes
    INTERVALS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, offsets, mask = block_of_neurons(N, BLOCK)
    sample = b.to(tl.int64) * N + offsets
    stride = B.to(tl.int64) * N
    neurons = neuron_numbers(offsets, channels, pixels, LAST)
    own = load_own(scale, shift, probability, neurons, offsets, channels, pixels, mask, LAST)
    leaks = of_sample(leaks, b, offsets, leak_sample)
    zeros = tl.zeros([BLOCK], tl.float32)
    u = initial_membrane(reset_value, HARD, BLOCK)
    limit = tl.full([], threshold, tl.float32)  # float64 to the interpreter where it is tiny
    if ADAPTS:
        limit = zeros + limit
    draws = (u, u, u, u)
    vs = ()
    limits = ()
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
            v = leaked(u, t, decay, membrane_gain, leaks, leak_step, mask)
            v = v + drive_at(x, t, own, gain, input_gain)
            if ADAPTS:
                limit = adapted(limit, v, rate, usual, t, N, offsets, mask)
            if FIRING == DRAW and t % 4 == 0:
                draws = philox_quad(tl.load(noise_keys + b), neurons, noise_layer, t // 4, SPIKE)
            spike = fire(
                v, limit, t, draws, noise_sharpness, firing_table, INTERVALS, FIRING, unit, LEVELS,
                ADAPTS,
            )  # fmt: skip
            u = after_spike(v, spike, reset_value, HARD, FIRING, LEVELS, ADAPTS)
        elif FROM_BYTES:
            code = tl.load(saved_bytes + t * stride + sample, mask=mask, other=0).to(tl.int32)
            level = (code & 127).to(tl.float32)
            far = tl.maximum((127.0 - level) / 126.0, 1e-3) + (level == 0.0).to(tl.float32)
            if surrogate_sharpness is not None:
                far = far / surrogate_sharpness
            v = threshold + tl.where(code > 127, far, -far)
        xs = xs + (x,)
        vs = vs + (v,)
        limits = limits + (limit,)
        spikes = spikes + (spike,)

    carried, probability_total = zeros, zeros
    on_limit, rate_total = zeros, zeros
    totals = (zeros, zeros, zeros)
    rate_slope = zeros
    if TIME == RATE_SLOPE:
        byte = tl.load(saved_bytes + sample, mask=mask, other=0)
        rate_slope = tl.where(byte == 1, lower_slope, tl.where(byte == 2, upper_slope, 0.0))
    for t in tl.static_range(T - 1, -1, -1):
        e = load_step(upstream, t, sample, stride, mask, SINGLE_UPSTREAM)
        # A sharp spike is recomputed, which keeps the membranes alone in registers.
        spike = spikes[t]
        if FIRING == NONE:
            spike = sharp_spike(vs[t], limits[t], unit, LEVELS, ADAPTS)
        if GATING == DRAW:
            if t == T - 1 or t % 4 == 3:
                draws = philox_quad(tl.load(gate_keys + b), neurons, gate_layer, t // 4, GATE)
            if grad_probability is not None:
                probability_total += e * spike * relaxed_gate_slope(own[2], draws[t % 4])
            e = e * (draws[t % 4] < own[2]).to(tl.float32)
        if GATING == MEAN:
            if grad_probability is not None:
                probability_total += e * spike
            e = e * own[2]
        grad = e * rate_slope
        if TIME != RATE_SLOPE:
            sharp = surrogate_sharpness
            if sharpness_map is not None:
                step = tl.full([], t, tl.int64) * sharpness_step  # beyond 2^31 on large cards
                place = step + b.to(tl.int64) * sharpness_sample + offsets
                sharp = tl.load(sharpness_map + place, mask=mask, other=1.0)
            z = distance(vs[t], limits[t], unit, LEVELS)
            slope = slope_at(z, sharp, surrogate_scale, surrogate_floor, SHAPE)
            if TIME == AVERAGE:
                carried += e * slope
            else:
                kept = carried
                if HARD:
                    silent = spike == 0.0
                    kept = (
                        (1.0 - spike) * carried
                        if FIRING == MEAN
                        else tl.where(silent, carried, 0.0)
                    )
                if not DETACHED:
                    if reset_value is not None:
                        e += (reset_value - vs[t] if HARD else reset_value) * carried
                    elif HARD:
                        e -= vs[t] * carried
                grad = kept + slope * e
                if ADAPTS:
                    on_limit = on_limit - slope * e
                    grad += tl.load(rate + offsets, mask=mask, other=0.0) * on_limit
                    if grad_rate is not None:
                        expected = tl.load(usual + t * N + offsets, mask=mask, other=0.0)
                        rate_total += on_limit * (vs[t] - expected)
                carried = leaked(grad, t, decay, membrane_gain, leaks, leak_step, mask)
                if grad_leaks is not None:
                    tl.store(grad_leaks + t * stride + sample, grad * before[t], mask=mask)
        if grad_gains is not None and TIME == RECURSION:
            amount = tl.sum(tl.where(mask, grad * before[t], 0.0))
            tl.store(grad_gains + tl.program_id(0).to(tl.int64) * 2 * T + t, amount)
        if TIME != AVERAGE:
            totals = _to_inputs(
                grad, t, xs[t], own, gain, input_gain, totals, grad_current, grad_gains, sample,
                grad_affine, stride, mask, T, SUMMED,
            )  # fmt: skip
    if TIME == AVERAGE:
        merged = carried / T
        for t in tl.static_range(0, T):
            totals = _to_inputs(
                merged, t, xs[t], own, gain, input_gain, totals, grad_current, grad_gains, sample,
                grad_affine, stride, mask, T, SUMMED,
            )  # fmt: skip
    if SUMMED:
        tl.store(grad_current + sample, totals[0], mask=mask)
    if grad_affine is not None:
        tl.store(grad_affine + sample, totals[1], mask=mask)
        tl.store(grad_affine + stride + sample, totals[2], mask=mask)
    if grad_probability is not None:
        tl.store(grad_probability + sample, probability_total, mask=mask)
    if grad_rate is not None:
        tl.store(grad_rate + sample, rate_total, mask=mask)
