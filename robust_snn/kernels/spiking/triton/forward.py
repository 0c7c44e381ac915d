"""Forward kernel: a block of neurons of one sample goes through all steps in registers."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import triton
import triton.language as tl

from robust_snn.kernels.spiking.triton.codes import (
    DRAW,
    FIRED,
    GATE,
    MEAN,
    MEAN_DRIVE,
    MEMBRANE,
    NONE,
    SPIKE,
)
from robust_snn.kernels.spiking.triton.philox import firing_probability, philox_quad


@triton.jit
def load_step(stack, t: tl.constexpr, sample, stride, mask, SINGLE: tl.constexpr):
    """The block at step `t` as float32; a stack of one stands for all steps."""
    step: tl.constexpr = 0 if SINGLE else t
    return tl.load(stack + step * stride + sample, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def drive_at(x, t: tl.constexpr, own, gain, steps, T: tl.constexpr, GAINS: tl.constexpr):
    """What the current adds to the membrane, in the reference's order of roundings."""
    drive = gain * (x * own[0] + own[1])
    if GAINS:
        drive = drive * tl.load(steps + T + t)
    return drive


@triton.jit
def load_own(affine, probability, offsets, N, mask, AFFINE: tl.constexpr, GATING: tl.constexpr):
    """Scale, shift and gate probability of each neuron; what is not given costs nothing."""
    scale, shift, opening = 1.0, 0.0, 1.0
    if AFFINE:
        scale = tl.load(affine + offsets, mask=mask, other=1.0)
        shift = tl.load(affine + N + offsets, mask=mask, other=0.0)
    if GATING != NONE:
        opening = tl.load(probability + offsets, mask=mask, other=1.0)
    return scale, shift, opening


@triton.jit
def fire(
    z,
    t: tl.constexpr,
    draws,
    noise_sharpness,
    firing_table,
    INTERVALS: tl.constexpr,
    FIRING: tl.constexpr,
):
    """Spikes at `z = v - threshold`, or their probability in the mean field."""
    if FIRING == NONE:
        return (z >= 0.0).to(tl.float32)
    probability = firing_probability(z, noise_sharpness, firing_table, INTERVALS)
    if FIRING == DRAW:
        return (draws[t % 4] < probability).to(tl.float32)
    return probability


@triton.jit(do_not_specialize=["gate_layer", "noise_layer"])
def spiking_forward(
    current,  # [T or 1, B, N]
    steps,  # float32 [2, T]: decay and input gain of each step
    affine,  # float32 [2, N]: scale and shift
    probability,  # float32 [N]: of the gates to open
    keys,  # int64 [2, B]: of the gate and of the membrane noise
    firing_table,  # float32 [INTERVALS + 1]: firing probabilities of the membrane noise
    out,  # [T, B, N]
    saved_bytes,  # uint8 [1 or T, B, N]; see `Saved`
    N,
    decay,
    threshold,
    gain,
    reset_value,
    lower_edge,
    upper_edge,
    surrogate_sharpness,
    gate_layer,
    noise_sharpness,
    noise_layer,
    T: tl.constexpr,
    SINGLE: tl.constexpr,  # one current for all steps
    AFFINE: tl.constexpr,
    GAINS: tl.constexpr,
    HARD: tl.constexpr,
    SAVES: tl.constexpr,
    GATING: tl.constexpr,
    FIRING: tl.constexpr,
    TRACE: tl.constexpr,  # write membranes minus threshold in place of spikes
    INTERVALS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
    mask = offsets < N
    sample = b.to(tl.int64) * N + offsets
    stride = tl.num_programs(1).to(tl.int64) * N
    own = load_own(affine, probability, offsets, N, mask, AFFINE, GATING)
    start = reset_value if HARD else 0.0
    u = tl.zeros([BLOCK], tl.float32) + start
    total = tl.zeros([BLOCK], tl.float32)
    fired = tl.zeros([BLOCK], tl.int1)
    gate_draws = (u, u, u, u)
    spike_draws = (u, u, u, u)
    for t in tl.static_range(0, T):
        x = load_step(current, t, sample, stride, mask, SINGLE)
        drive = drive_at(x, t, own, gain, steps, T, GAINS)
        leak = tl.load(steps + t) if GAINS else decay
        v = leak * u + drive
        z = v - threshold
        if FIRING == DRAW and t % 4 == 0:
            key = tl.load(keys + tl.num_programs(1) + b)
            spike_draws = philox_quad(key, offsets, noise_layer, t // 4, SPIKE)
        spike = fire(z, t, spike_draws, noise_sharpness, firing_table, INTERVALS, FIRING)
        u = (1.0 - spike) * v + reset_value * spike if HARD else v + reset_value * spike
        if SAVES == FIRED:
            fired = fired | (spike > 0.0)
        if SAVES == MEAN_DRIVE:
            total += drive
        if SAVES == MEMBRANE:
            level = (126.0 * (1.0 - surrogate_sharpness * tl.abs(z)) + 1.5).to(tl.int32)
            code = tl.maximum(level, 0) + spike.to(tl.int32) * 128
            tl.store(saved_bytes + t * stride + sample, code.to(tl.uint8), mask=mask)
        if GATING == DRAW:
            if t % 4 == 0:
                gate_draws = philox_quad(tl.load(keys + b), offsets, gate_layer, t // 4, GATE)
            spike = spike * (gate_draws[t % 4] < own[2]).to(tl.float32)
        if GATING == MEAN:
            spike = spike * own[2]
        tl.store(out + t * stride + sample, z if TRACE else spike, mask=mask)
    if SAVES == FIRED:
        tl.store(saved_bytes + sample, fired.to(tl.uint8), mask=mask)
    if SAVES == MEAN_DRIVE:
        mean = tl.div_rn(total, tl.zeros([BLOCK], tl.float32) + T)
        inside = (mean > 0.0) & (mean <= upper_edge)
        tl.store(
            saved_bytes + sample, tl.where(inside, tl.where(mean > lower_edge, 2, 1), 0), mask=mask
        )
