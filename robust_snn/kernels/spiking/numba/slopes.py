"""Surrogate derivatives on blocks of neurons, chosen by the code of a shape.

The shapes are those of `kernels.spiking.surrogate_shapes.UNIT_SHAPES`; a test compares every row.
The exponential is a polynomial, since LLVM can vectorise that and not a call into libm.
"""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import backward_helper, helper
from robust_snn.kernels.numba_tools.half_precision import put
from robust_snn.kernels.spiking.codes import Shape
from robust_snn.kernels.spiking.numba.own_numbers import decay_of, distance

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_HALF_PI = np.float32(np.pi / 2)
_ROOT_PI = np.float32(1 / np.sqrt(np.pi))
_ROOT_TWO_PI = np.float32(1 / np.sqrt(2 * np.pi))
_LOG2_E = np.float32(1 / np.log(2))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87)
# Minimax coefficients of (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2 (Cephes expf).
_P0, _P1 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3)
_P2, _P3 = np.float32(8.3334519073e-3), np.float32(4.1665795894e-2)
_P4, _P5 = np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@helper
def _exp(x):
    """`exp(x)` for `x <= 0`, to 2 units in the last place; zero below the smallest normal."""
    normal = np.float32(x > _LOWEST)
    x = max(x, _LOWEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.int32((np.int32(n) + np.int32(127)) << 23).view(np.float32)
    return (p * r * r + r + _ONE) * power * normal


@helper
def _triangle(u):
    return max(_ONE - abs(u), _ZERO)


@helper
def _rectangle(u):
    return np.float32(abs(u) < _HALF)


@helper
def _atan(u):
    a = _HALF_PI * u
    return _HALF / (_ONE + a * a)


@helper
def _sigmoid(u):
    tail = _exp(-abs(u))
    return tail / ((_ONE + tail) * (_ONE + tail))


@helper
def _gaussian(u):
    return _ROOT_PI * _exp(-(u * u))


@helper
def _softsign(u):
    a = _ONE + abs(u)
    return _HALF / (a * a)


@helper
def _exponential(u):
    return _HALF * _exp(-abs(u))


@helper
def _shifted(u):
    a = u - _HALF
    return _ROOT_TWO_PI * _exp(-_HALF * a * a)


@helper
def _logarithm(u):
    return _ONE / (_ONE + abs(u))


@helper
def _step(u):
    return np.float32(u >= _ZERO)


def _over_block(shape):
    """The loop over a block for one unit shape: the branch on the family stays outside."""

    def fill(v, threshold, sharpness, scale, floor, out):
        for j in range(v.size):
            height = scale * sharpness[j]
            out[j] = height * shape(sharpness[j] * distance(threshold, j, v[j])) + floor

    # Machine code from the disk is linked by name: two helpers of one name would be mixed up.
    fill.__qualname__ = f"fill{shape.__name__}"
    return backward_helper(fill)


@backward_helper
def _into_triangle(e, v, z, sharpness, height, floor, hard, cross, cross_v, carried):
    slope = height * _triangle(sharpness * z) + floor
    kept = _ZERO if hard and z >= _ZERO else carried
    return kept + slope * (e + (cross + cross_v * v) * carried)


@backward_helper
def step_back_triangle(
    e, v, threshold, sharpness, height, floor, hard, cross, cross_v, decay, carried,
    factor, affine_scale, out,
):  # fmt: skip
    """`block_ops.step_back` with the slope of the default surrogate, in one pass over the block.

    `height` is that of the triangle. `out` is the gradient times a factor, and times the affine
    scale of each neuron if there is one. An attack spends most of a backward pass here.
    """
    if affine_scale.size == 0:
        for j in range(out.size):
            z = distance(threshold, j, v[j])
            into = _into_triangle(
                e[j], v[j], z, sharpness, height, floor, hard, cross, cross_v, carried[j]
            )
            put(out, j, factor * into)
            carried[j] = decay_of(decay, j) * into
    else:
        for j in range(out.size):
            z = distance(threshold, j, v[j])
            into = _into_triangle(
                e[j], v[j], z, sharpness, height, floor, hard, cross, cross_v, carried[j]
            )
            put(out, j, factor * affine_scale[j] * into)
            carried[j] = decay_of(decay, j) * into


_fill_triangle, _fill_rectangle = _over_block(_triangle), _over_block(_rectangle)
_fill_atan, _fill_sigmoid = _over_block(_atan), _over_block(_sigmoid)
_fill_gaussian, _fill_softsign = _over_block(_gaussian), _over_block(_softsign)
_fill_exponential, _fill_shifted = _over_block(_exponential), _over_block(_shifted)
_fill_logarithm, _fill_step = _over_block(_logarithm), _over_block(_step)


@helper
def fill_slopes(args, v, threshold, sharpness, out):
    """Writes the surrogate derivative at the membranes `v`."""
    scale, floor = np.float32(args.surrogate_scale), np.float32(args.surrogate_floor)
    if args.surrogate_shape == Shape.TRIANGLE:
        _fill_triangle(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.RECTANGLE:
        _fill_rectangle(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.ATAN:
        _fill_atan(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.SIGMOID:
        _fill_sigmoid(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.GAUSSIAN:
        _fill_gaussian(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.SOFTSIGN:
        _fill_softsign(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.EXPONENTIAL:
        _fill_exponential(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.SHIFTED:
        _fill_shifted(v, threshold, sharpness, scale, floor, out)
    elif args.surrogate_shape == Shape.LOGARITHM:
        _fill_logarithm(v, threshold, sharpness, scale, floor, out)
    else:
        _fill_step(v, threshold, sharpness, scale, floor, out)
