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
def scaled(x, factor):
    """The product; no factor stands for one."""
    product = x
    if factor is not None:
        product = factor * x
    return product


@triton.jit
def drive_at(x, t: tl.constexpr, own, gain, input_gain):
    """What the current adds to the membrane, in the reference's order of roundings."""
    drive = scaled(x * own[0] + own[1], gain)
    if input_gain is not None:
        drive = drive * tl.load(input_gain + t)
    return drive


@triton.jit
def leaked(u, t: tl.constexpr, decay, membrane_gain, leaks, leak_step, mask):
    """What is left of a membrane, or of its gradient, a step later or earlier."""
    rest = u
    if leaks is not None:
        rest = scaled(load_by_step(leaks, t, leak_step, mask), decay) * u
    elif membrane_gain is not None:
        rest = scaled(tl.load(membrane_gain + t), decay) * u
    else:
        rest = scaled(u, decay)
    return rest


@triton.jit
def load_by_step(own, t: tl.constexpr, step, mask):
    """A number of each neuron at step `t`; no stride stands for the same at every step."""
    place = own
    if step is not None:
        place = own + tl.full([], t, tl.int64) * step
    return tl.load(place, mask=mask, other=0.0)


@triton.jit
def of_sample(own, b, offsets, stride):
    """Where numbers of the neurons of a sample lie; no stride stands for the same in all."""
    place = own
    if own is not None:
        place = own + offsets
        if stride is not None:
            place = place + b.to(tl.int64) * stride
    return place


@triton.jit
def adapted(limit, v, rate, usual, t: tl.constexpr, N, offsets, mask):
    """Thresholds that have followed the membranes of step `t`."""
    expected = tl.load(usual + t * N + offsets, mask=mask, other=0.0)
    return limit + tl.load(rate + offsets, mask=mask, other=0.0) * (v - expected)


@triton.jit
def levels_below(v, threshold, unit, LEVELS: tl.constexpr):
    """Number of thresholds below the one that is nearest to a membrane; NaN of NaN."""
    height = v - threshold
    if unit is not None:
        height = tl.div_rn(height, height * 0.0 + unit)
    nearest = tl.floor(height + 0.5)
    nearest = tl.where(nearest < 0.0, 0.0, nearest)
    return tl.where(nearest > LEVELS - 1, LEVELS - 1.0, nearest)


@triton.jit
def distance(v, threshold, unit, LEVELS: tl.constexpr):
    """How far membranes are above the threshold, of several above the nearest."""
    z = v - threshold
    if LEVELS > 1:
        z = z - scaled(levels_below(v, threshold, unit, LEVELS), unit)
    return z


@triton.jit
def sharp_spike(v, threshold, unit, LEVELS: tl.constexpr, ADAPTS: tl.constexpr):
    """Spikes without noise."""
    # infinite membranes have infinite thresholds that adapt, and no spike, as in the reference
    fires = v - threshold >= 0.0 if ADAPTS else v >= threshold
    spike = fires.to(tl.float32)
    if LEVELS > 1:
        above = distance(v, threshold, unit, LEVELS) >= 0.0
        spike = levels_below(v, threshold, unit, LEVELS) + above.to(tl.float32)
    return spike


@triton.jit
def block_of_neurons(N, BLOCK: tl.constexpr):
    """The sample of this program and the places of its neurons in it, in storage order."""
    blocks = tl.cdiv(N, BLOCK)
    program = tl.program_id(0)
    offsets = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    return program // blocks, offsets, offsets < N


@triton.jit
def neuron_numbers(offsets, channels, pixels, LAST: tl.constexpr):
    """Numbers of the neurons in the random stream, which ignore the layout."""
    numbers = offsets
    if LAST:
        numbers = (offsets % channels) * pixels + offsets // channels
    return numbers


@triton.jit
def load_own(
    scale, shift, probability, neurons, offsets, channels, pixels, mask, LAST: tl.constexpr
):
    """Scale, shift and gate probability of each neuron; what is not given costs nothing."""
    own_scale, own_shift, opening = 1.0, -0.0, 1.0  # adding -0.0 changes no bit
    if scale is not None:
        channel = offsets % channels if LAST else offsets // pixels
        own_scale = tl.load(scale + channel, mask=mask, other=1.0)
        own_shift = tl.load(shift + channel, mask=mask, other=0.0)
    if probability is not None:
        opening = tl.load(probability + neurons, mask=mask, other=1.0)
    return own_scale, own_shift, opening


@triton.jit
def fire(
    v,
    threshold,
    t: tl.constexpr,
    draws,
    noise_sharpness,
    firing_table,
    INTERVALS: tl.constexpr,
    FIRING: tl.constexpr,
    unit,
    LEVELS: tl.constexpr,
    ADAPTS: tl.constexpr,
):
    """Spikes of membranes `v`, or their probability in the mean field."""
    if FIRING == NONE:
        spike = sharp_spike(v, threshold, unit, LEVELS, ADAPTS)
    else:
        spike = firing_probability(v - threshold, noise_sharpness, firing_table, INTERVALS)
        if FIRING == DRAW:
            spike = (draws[t % 4] < spike).to(tl.float32)
    return spike


@triton.jit
def after_spike(
    v,
    spike,
    reset_value,
    HARD: tl.constexpr,
    FIRING: tl.constexpr,
    LEVELS: tl.constexpr,
    ADAPTS: tl.constexpr,
):
    """Membranes after the reset; no reset value stands for zero."""
    if ADAPTS and HARD:  # as in the reference, whose 0 * inf would be NaN
        v = tl.where(v > 3.4028234663852886e38, 3.4028234663852886e38, v)
    if LEVELS > 1:
        u = v + reset_value * spike
    elif FIRING == MEAN:
        # 0 * inf would be NaN
        u = tl.where(spike == 1.0, 0.0, (1.0 - spike) * v) if HARD else v
        if reset_value is not None:
            u = u + reset_value * spike
    else:
        fired = 0.0 if HARD else v
        if reset_value is not None:
            fired = reset_value if HARD else v + reset_value
        u = tl.where(spike > 0.0, fired, v)
    return u


@triton.jit
def initial_membrane(reset_value, HARD: tl.constexpr, BLOCK: tl.constexpr):
    """Membranes before the first step."""
    u = tl.zeros([BLOCK], tl.float32)
    if HARD and reset_value is not None:
        u += reset_value
    return u


@triton.jit(do_not_specialize=["B", "gate_layer", "noise_layer"])
def spiking_forward(
    current,  # [T or 1, B, N]
    scale,  # float32 [C], or None, as all that a layer need not have
    shift,  # float32 [C]
    membrane_gain,  # float32 [T]
    input_gain,  # float32 [T]
    probability,  # float32 [N], of the gates to open, channels first
    gate_keys,  # int64 [B]
    noise_keys,  # int64 [B]
    firing_table,  # float32 [INTERVALS + 1]: firing probabilities of the membrane noise
    leaks,  # float32 [T or 1, B or 1, N]: factor on the decay of each neuron
    rate,  # float32 [N]: of thresholds that adapt
    usual,  # float32 [T, N]: usual membranes
    out,  # [T, B, N]
    saved_bytes,  # uint8 [1 or T, B, N]; see `Saved`
    B,
    N,
    channels,  # N = channels * pixels
    pixels,
    decay,  # None for 1, as all factors
    threshold,
    gain,
    reset_value,  # None for 0
    lower_edge,
    upper_edge,
    surrogate_sharpness,
    gate_layer,
    noise_sharpness,
    noise_layer,
    leak_step,  # strides of the leaks, None where they are the same
    leak_sample,
    unit,  # between the thresholds of several levels
    T: tl.constexpr,
    SINGLE: tl.constexpr,  # one current for all steps
    LAST: tl.constexpr,  # channels lie last in memory
    HARD: tl.constexpr,
    SAVES: tl.constexpr,
    GATING: tl.constexpr,
    FIRING: tl.constexpr,
    LEVELS: tl.constexpr,  # largest spike
    ADAPTS: tl.constexpr,  # whether thresholds do
    TRACE: tl.constexpr,  # write membranes minus threshold in place of spikes
    INTERVALS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, offsets, mask = block_of_neurons(N, BLOCK)
    sample = b.to(tl.int64) * N + offsets
    stride = B.to(tl.int64) * N
    neurons = neuron_numbers(offsets, channels, pixels, LAST)
    own = load_own(scale, shift, probability, neurons, offsets, channels, pixels, mask, LAST)
    leaks = of_sample(leaks, b, offsets, leak_sample)
    u = initial_membrane(reset_value, HARD, BLOCK)
    limit = tl.full([], threshold, tl.float32)  # float64 to the interpreter where it is tiny
    if ADAPTS:
        limit = tl.zeros([BLOCK], tl.float32) + limit
    total = tl.zeros([BLOCK], tl.float32)
    fired = tl.zeros([BLOCK], tl.int1)
    gate_draws = (u, u, u, u)
    spike_draws = (u, u, u, u)
    for t in tl.static_range(0, T):
        x = load_step(current, t, sample, stride, mask, SINGLE)
        drive = drive_at(x, t, own, gain, input_gain)
        v = leaked(u, t, decay, membrane_gain, leaks, leak_step, mask) + drive
        if ADAPTS:
            limit = adapted(limit, v, rate, usual, t, N, offsets, mask)
        if FIRING == DRAW and t % 4 == 0:
            spike_draws = philox_quad(tl.load(noise_keys + b), neurons, noise_layer, t // 4, SPIKE)
        spike = fire(
            v, limit, t, spike_draws, noise_sharpness, firing_table, INTERVALS, FIRING, unit,
            LEVELS, ADAPTS,
        )  # fmt: skip
        u = after_spike(v, spike, reset_value, HARD, FIRING, LEVELS, ADAPTS)
        if SAVES == FIRED:
            fired = fired | (spike > 0.0)
        if SAVES == MEAN_DRIVE:
            total += drive
        if SAVES == MEMBRANE:
            width = scaled(tl.abs(v - threshold), surrogate_sharpness)
            level = 126.0 * (1.0 - width) + 1.5
            level = tl.where(level > 0.0, level, 0.0)  # of NaN too
            code = level.to(tl.int32) + spike.to(tl.int32) * 128
            tl.store(saved_bytes + t * stride + sample, code.to(tl.uint8), mask=mask)
        if GATING == DRAW:
            if t % 4 == 0:
                gate_draws = philox_quad(tl.load(gate_keys + b), neurons, gate_layer, t // 4, GATE)
            spike = spike * (gate_draws[t % 4] < own[2]).to(tl.float32)
        if GATING == MEAN:
            spike = spike * own[2]
        given = distance(v, limit, unit, LEVELS) if TRACE else spike
        tl.store(out + t * stride + sample, given, mask=mask)
    if SAVES == FIRED:
        tl.store(saved_bytes + sample, fired.to(tl.uint8), mask=mask)
    if SAVES == MEAN_DRIVE:
        mean = tl.div_rn(total, tl.zeros([BLOCK], tl.float32) + T)
        inside = (mean > 0.0) & (mean <= upper_edge)
        tl.store(
            saved_bytes + sample, tl.where(inside, tl.where(mean > lower_edge, 2, 1), 0), mask=mask
        )
