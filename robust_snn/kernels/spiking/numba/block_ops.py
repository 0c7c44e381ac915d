"""Loops over a block of neurons that stays in the first-level cache.

Operations come in the order of the reference, so membranes and spikes have the same bits. No two
arguments of a loop may be the same memory: LLVM then takes a loop that is not vectorised.
Decays and thresholds are those of `own_numbers`.
"""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import backward_helper, helper
from robust_snn.kernels.numba_tools.half_precision import put
from robust_snn.kernels.spiking.firing_probability import FARTHEST
from robust_snn.kernels.spiking.numba.own_numbers import decay_of, distance, fire

_ZERO, _ONE = np.float32(0), np.float32(1)
_EPSILON = np.float32(1e-3)  # of the relaxed gate
_RANGE = np.float32(2.0**24)  # of a draw
_FARTHEST = np.float32(FARTHEST)
_STEPS, _ROUND = np.float32(126), np.float32(1.5)  # levels 1 to 127 of a membrane's code


@helper
def fill(value, out):
    for j in range(out.size):
        out[j] = value


@helper
def copy(a, out):
    for j in range(out.size):
        put(out, j, a[j])


@helper
def multiply(a, b, out):
    for j in range(out.size):
        put(out, j, a[j] * b[j])


@helper
def add_product(a, b, out):
    for j in range(out.size):
        out[j] += a[j] * b[j]


@helper
def distances(v, threshold, out):
    for j in range(out.size):
        out[j] = distance(threshold, j, v[j])


@helper
def dot(a, b):
    total = 0.0
    for j in range(a.size):
        total += np.float64(a[j]) * np.float64(b[j])
    return total


@helper
def transform(current, scale, shift, out):
    for j in range(out.size):
        out[j] = current[j] * scale[j] + shift[j]


@helper
def amplify(gain, step_gain, out):
    for j in range(out.size):
        out[j] = (gain * out[j]) * step_gain


@helper
def add(a, total):
    for j in range(total.size):
        total[j] += a[j]


@helper
def leak_and_fire(drive, decay, threshold, hard, reset_value, u, v, spike):
    """A step without noise: the membrane, the spike, and the reset."""
    for j in range(v.size):
        membrane = decay_of(decay, j) * u[j] + drive[j]
        v[j] = membrane
        spike[j], u[j] = fire(threshold, j, membrane, hard, reset_value)


@helper
def leak_and_put(drive, decay, threshold, hard, reset_value, u, out):
    """`leak_and_fire` where nothing but the spikes is asked for, which go to memory at once.

    Here and in `leak_from` a layer waits for memory, so nothing is stored that is not read.
    """
    for j in range(out.size):
        membrane = decay_of(decay, j) * u[j] + drive[j]
        spike, u[j] = fire(threshold, j, membrane, hard, reset_value)
        put(out, j, spike)


@helper
def leak_and_gate(drive, decay, threshold, hard, reset_value, u, words, probability, out):
    """`leak_and_put` behind a gate: spikes whose draw lies below the probability."""
    for j in range(out.size):
        membrane = decay_of(decay, j) * u[j] + drive[j]
        spike, u[j] = fire(threshold, j, membrane, hard, reset_value)
        put(out, j, spike if np.float32(words[j]) < probability[j] * _RANGE else _ZERO)


@helper
def leak_from(drive, decay, threshold, hard, reset_value, before, v):
    """The membrane `v` after a step without noise, from that of the step before, not yet reset."""
    for j in range(v.size):
        after = fire(threshold, j, before[j], hard, reset_value)[1]
        v[j] = decay_of(decay, j) * after + drive[j]


@helper
def leak(drive, decay, u, v):
    for j in range(v.size):
        v[j] = decay_of(decay, j) * u[j] + drive[j]


@helper
def firing_probability(v, threshold, sharpness, table, out):
    """See `robust_snn.kernels.spiking.firing_probability.firing_probability`.

    Nothing checks an index here, so it is chosen among numbers before it is one.
    """
    last, half = np.int32(table.size - 2), np.float32((table.size - 1) // 2)
    for j in range(v.size):
        u = sharpness * (v[j] - threshold)
        u = _FARTHEST if u > _FARTHEST else (-_FARTHEST if u < -_FARTHEST else u)
        position = (u / (_ONE + abs(u)) + _ONE) * half
        place = position if position > _ZERO else _ZERO  # of NaN too
        knot = np.uint32(min(np.int32(place), last))  # unsigned: no wraparound to check
        below = table[knot]
        out[j] = below + (position - np.float32(knot)) * (table[knot + np.uint32(1)] - below)


@helper
def draw_below(words, out):
    """Turns probabilities into draws: a word of 24 bits is compared exactly."""
    for j in range(out.size):
        out[j] = np.float32(np.float32(words[j]) < out[j] * _RANGE)


@helper
def keep_below(words, probability, values, out):
    """`values` where a draw lies below the probability, zero elsewhere."""
    for j in range(out.size):
        put(out, j, values[j] if np.float32(words[j]) < probability[j] * _RANGE else _ZERO)


@helper
def reset_membranes(v, spike, hard, reset_value, u):
    """`u = (1 - s) v + reset_value s`, without `(1 - s)` for a soft reset."""
    for j in range(v.size):
        after = (_ONE - hard * spike[j]) * v[j] + reset_value * spike[j]
        u[j] = reset_value if hard * spike[j] == _ONE else after  # 0 * inf would be NaN


@helper
def mark_fired(spike, saved_bytes):
    for j in range(saved_bytes.size):
        saved_bytes[j] |= spike[j] != 0  # of floats or of the bits of half precision


@helper
def mark_by_mean(total, steps, lower, upper, saved_bytes):
    """0 for a mean drive outside (0, upper], else 1 up to `lower` and 2 above it."""
    for j in range(saved_bytes.size):
        mean = total[j] / np.float32(steps)
        inside = (mean > _ZERO) & (mean <= upper)
        saved_bytes[j] = np.uint8(inside) * (np.uint8(1) + np.uint8(mean > lower))


@helper
def add_relaxed_gate(upstream, spike, words, probability, grad):
    """Adds `upstream * spike * d relaxed_gate / d probability`, at temperature 1/2.

    With odds `r = p / (1 - p + eps) * (1 - u) / (u + eps)` the relaxed gate is `r^2 / (1 + r^2)`.
    """
    for j in range(grad.size):
        p, u = probability[j], np.float32(words[j]) / _RANGE
        closed = _ONE - p + _EPSILON
        odds = p / closed * ((_ONE - u) / (u + _EPSILON))
        bend = odds / (_ONE + odds * odds)
        slope = np.float32(2) * bend * bend * (_ONE + _EPSILON) / (p * closed)
        grad[j] += upstream[j] * spike[j] * slope


@backward_helper
def step_back(e, slope, v, threshold, hard, cross, cross_v, decay, carried, grad):
    """One step of the recursion; `carried` is the gradient on the membrane after the reset.

    `grad = (1 - s) carried + slope (e + (cross + cross_v v) carried)`, without `(1 - s)` for a soft
    reset. Leaves `decay grad`, the gradient on the step before, in `carried`.
    """
    for j in range(grad.size):
        a = carried[j]
        kept = _ZERO if hard and distance(threshold, j, v[j]) >= _ZERO else a
        into = kept + slope[j] * (e[j] + (cross + cross_v * v[j]) * a)
        grad[j] = into
        carried[j] = decay_of(decay, j) * into


@backward_helper
def step_back_adapting(
    e, slope, v, threshold, own, t, here, hard, cross, cross_v, decay, carried, adapting, grad
):
    """`step_back` where thresholds adapt, as `own` says; see `own_numbers.threshold_at`.

    `adapting` is the gradient on the thresholds of later steps, and that on the rates so far.
    """
    rate, usual, (on_threshold, grad_rate) = own[0][here], own[1][t, here], adapting
    for j in range(grad.size):
        a, z = carried[j], distance(threshold, j, v[j])
        through = slope[j] * (e[j] + (cross + cross_v * v[j]) * a)
        shared = on_threshold[j] - through
        into = (_ZERO if hard and z >= _ZERO else a) + through + rate[j] * shared
        grad_rate[j] += shared * (v[j] - usual[j])
        on_threshold[j] = shared
        grad[j] = into
        carried[j] = decay_of(decay, j) * into


@backward_helper
def step_back_noisy(e, slope, v, spike, hard, cross, cross_v, decay, carried, grad):
    """`step_back` where the spike, or its probability, does not follow from the membrane."""
    for j in range(grad.size):
        a = carried[j]
        kept = (_ONE - hard * spike[j]) * a
        into = kept + slope[j] * (e[j] + (cross + cross_v * v[j]) * a)
        grad[j] = into
        carried[j] = decay_of(decay, j) * into


@helper
def encode(v, spike, threshold, sharpness, code):
    """The spike, and in 7 bits how far inside the triangle's support the membrane is; 0 outside."""
    for j in range(code.size):
        level = _STEPS * (_ONE - sharpness * abs(v[j] - threshold)) + _ROUND
        level = level if level > _ZERO else _ZERO  # of NaN too
        code[j] = np.uint8(np.int32(level) | (np.int32(spike[j]) << 7))


@helper
def decode(code, threshold, sharpness, v, spike):
    """Undoes `encode`, to within half a level; outside the support any membrane will do."""
    for j in range(code.size):
        level = np.int32(code[j] & 127)
        s = np.float32(code[j] >> 7)
        far = max((_STEPS + _ONE - np.float32(level)) / _STEPS, _EPSILON) + np.float32(level == 0)
        spike[j] = s
        v[j] = threshold + (s + s - _ONE) * far / sharpness


@helper
def pick_slope(e, saved_bytes, lower, upper, grad):
    """`grad = e slope` with the slope that each neuron's saved byte names."""
    for j in range(grad.size):
        slope = lower if saved_bytes[j] == 1 else (upper if saved_bytes[j] == 2 else _ZERO)
        grad[j] = e[j] * slope


@helper
def put_multiple(a, factor, out):
    for j in range(out.size):
        put(out, j, factor * a[j])


@helper
def put_products(a, scale, factor, out):
    for j in range(out.size):
        put(out, j, factor * scale[j] * a[j])


@helper
def add_multiple(a, factor, total):
    for j in range(total.size):
        total[j] += factor * a[j]


@helper
def add_affine_gradient(grad, current, gain, grad_scale, grad_shift):
    for j in range(grad.size):
        grad_scale[j] += gain * grad[j] * current[j]
        grad_shift[j] += gain * grad[j]
