"""Philox4x32-10 in Triton, bit for bit the numbers of `robust_snn.kernels.philox`."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.random import philox_impl

from robust_snn.kernels.spiking.firing_probability import FARTHEST as _FARTHEST

FARTHEST = tl.constexpr(_FARTHEST)


@triton.jit
def philox_quad(key, neuron, layer, quad: tl.constexpr, purpose: tl.constexpr):
    """Uniform draws in [0, 1) for steps `4 quad ... 4 quad + 3`, a tuple of four."""
    zero = neuron.to(tl.uint32) * 0
    c0, c1, c2, c3 = philox_impl(
        neuron.to(tl.uint32),
        zero + quad,
        zero + layer.to(tl.uint32),
        zero + purpose,
        zero + (key & 0xFFFFFFFF).to(tl.uint32),
        zero + ((key >> 32) & 0xFFFFFFFF).to(tl.uint32),
        10,
    )
    unit: tl.constexpr = 2.0**-24
    return (
        (c0 >> 8).to(tl.float32) * unit,
        (c1 >> 8).to(tl.float32) * unit,
        (c2 >> 8).to(tl.float32) * unit,
        (c3 >> 8).to(tl.float32) * unit,
    )


@triton.jit
def firing_probability(z, sharpness, table, INTERVALS: tl.constexpr):
    """See `robust_snn.kernels.spiking.firing_probability.firing_probability`."""
    u = sharpness * z
    u = tl.where(u > FARTHEST, FARTHEST, tl.where(u < -FARTHEST, -FARTHEST, u))
    position = (tl.div_rn(u, 1.0 + tl.abs(u)) + 1.0) * (INTERVALS // 2)
    place = tl.where(position > 0.0, position, 0.0)  # of NaN too
    knot = tl.minimum(place.to(tl.int32), INTERVALS - 1)
    below = tl.load(table + knot)
    return below + (position - knot.to(tl.float32)) * (tl.load(table + knot + 1) - below)
