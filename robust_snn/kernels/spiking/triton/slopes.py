"""Surrogate derivatives in Triton; `FAMILY` is a position in `surrogates.FAMILIES`."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _shape(u, FAMILY: tl.constexpr):
    if FAMILY == 0:  # triangle
        return tl.maximum(1.0 - tl.abs(u), 0.0)
    elif FAMILY == 1:  # rectangle
        return (tl.abs(u) < 0.5).to(tl.float32)
    elif FAMILY == 2:  # atan
        a = 1.5707963267948966 * u
        return 0.5 / (1.0 + a * a)
    elif FAMILY == 3:  # sigmoid
        tail = tl.exp(-tl.abs(u))
        return tail / ((1.0 + tail) * (1.0 + tail))
    elif FAMILY == 4:  # gaussian
        return 0.5641895835477563 * tl.exp(-(u * u))
    elif FAMILY == 5:  # softsign
        a = 1.0 + tl.abs(u)
        return 0.5 / (a * a)
    elif FAMILY == 6:  # exponential
        return 0.5 * tl.exp(-tl.abs(u))
    elif FAMILY == 7:  # shifted
        a = u - 0.5
        return 0.3989422804014327 * tl.exp(-0.5 * a * a)
    elif FAMILY == 8:  # logarithm
        return 1.0 / (1.0 + tl.abs(u))
    else:  # step
        return (u >= 0.0).to(tl.float32)


@triton.jit
def slope_at(z, sharpness, peak, floor, FAMILY: tl.constexpr):
    """The surrogate derivative at `z = v - threshold`."""
    return peak * sharpness * _shape(sharpness * z, FAMILY) + floor


@triton.jit
def relaxed_gate_slope(p, uniform):
    """Derivative of `robust_snn.kernels.spiking.gate.relaxed_gate` with respect to `p`."""
    closed = 1.0 - p + 1e-3
    odds = p / closed * ((1.0 - uniform) / (uniform + 1e-3))
    bend = odds / (1.0 + odds * odds)
    return 2.0 * bend * bend * 1.001 / (p * closed)
