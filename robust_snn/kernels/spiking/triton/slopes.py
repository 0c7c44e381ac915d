"""Surrogate derivatives in Triton; `SHAPE` is a code of `kernels.spiking.codes.Shape`."""

# mypy: ignore-errors
# Triton infers the types of compiled functions.
from __future__ import annotations

import triton
import triton.language as tl

from robust_snn.kernels.spiking.codes import Shape

TRIANGLE = tl.constexpr(int(Shape.TRIANGLE))
RECTANGLE = tl.constexpr(int(Shape.RECTANGLE))
ATAN = tl.constexpr(int(Shape.ATAN))
SIGMOID = tl.constexpr(int(Shape.SIGMOID))
GAUSSIAN = tl.constexpr(int(Shape.GAUSSIAN))
SOFTSIGN = tl.constexpr(int(Shape.SOFTSIGN))
EXPONENTIAL = tl.constexpr(int(Shape.EXPONENTIAL))
SHIFTED = tl.constexpr(int(Shape.SHIFTED))
LOGARITHM = tl.constexpr(int(Shape.LOGARITHM))


@triton.jit
def _shape(u, SHAPE: tl.constexpr):
    if SHAPE == TRIANGLE:
        return tl.maximum(1.0 - tl.abs(u), 0.0)
    elif SHAPE == RECTANGLE:
        return (tl.abs(u) < 0.5).to(tl.float32)
    elif SHAPE == ATAN:
        a = 1.5707963267948966 * u
        return 0.5 / (1.0 + a * a)
    elif SHAPE == SIGMOID:
        tail = tl.exp(-tl.abs(u))
        return tail / ((1.0 + tail) * (1.0 + tail))
    elif SHAPE == GAUSSIAN:
        return 0.5641895835477563 * tl.exp(-(u * u))
    elif SHAPE == SOFTSIGN:
        a = 1.0 + tl.abs(u)
        return 0.5 / (a * a)
    elif SHAPE == EXPONENTIAL:
        return 0.5 * tl.exp(-tl.abs(u))
    elif SHAPE == SHIFTED:
        a = u - 0.5
        return 0.3989422804014327 * tl.exp(-0.5 * a * a)
    elif SHAPE == LOGARITHM:
        return 1.0 / (1.0 + tl.abs(u))
    else:  # step
        return (u >= 0.0).to(tl.float32)


@triton.jit
def slope_at(z, sharpness, scale, floor, SHAPE: tl.constexpr):
    """The surrogate derivative at `z = v - threshold`; see `factors` for what is None."""
    height = 1.0
    u = z
    if sharpness is not None:
        u = sharpness * z
        height = sharpness
    if scale is not None:
        height = scale * height
    slope = height * _shape(u, SHAPE)
    if floor is not None:
        slope += floor
    return slope


@triton.jit
def relaxed_gate_slope(p, uniform):
    """Derivative of `robust_snn.kernels.spiking.gate.relaxed_gate` with respect to `p`."""
    closed = 1.0 - p + 1e-3
    odds = p / closed * ((1.0 - uniform) / (uniform + 1e-3))
    bend = odds / (1.0 + odds * odds)
    return 2.0 * bend * bend * 1.001 / (p * closed)
