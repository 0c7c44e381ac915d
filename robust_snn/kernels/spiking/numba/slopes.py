"""Surrogate derivatives on blocks of neurons, chosen by an integer code.

The codes are positions in `robust_snn.kernels.spiking.surrogates.FAMILIES`; a test compares every
row. The exponential is a polynomial, since LLVM can vectorise that and not a call into libm.
"""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.spiking.numba.compile import device

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


@device
def _exp(x):
    """`exp(x)` for `x <= 0`, to 2 units in the last place; zero below the smallest normal."""
    normal = np.float32(x > _LOWEST)
    x = max(x, _LOWEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.int32((np.int32(n) + np.int32(127)) << 23).view(np.float32)
    return (p * r * r + r + _ONE) * power * normal


@device
def _triangle(u, out):
    for j in range(u.size):
        out[j] = max(_ONE - abs(u[j]), _ZERO)


@device
def _rectangle(u, out):
    for j in range(u.size):
        out[j] = np.float32(abs(u[j]) < _HALF)


@device
def _atan(u, out):
    for j in range(u.size):
        a = _HALF_PI * u[j]
        out[j] = _HALF / (_ONE + a * a)


@device
def _sigmoid(u, out):
    for j in range(u.size):
        tail = _exp(-abs(u[j]))
        out[j] = tail / ((_ONE + tail) * (_ONE + tail))


@device
def _gaussian(u, out):
    for j in range(u.size):
        out[j] = _ROOT_PI * _exp(-(u[j] * u[j]))


@device
def _softsign(u, out):
    for j in range(u.size):
        a = _ONE + abs(u[j])
        out[j] = _HALF / (a * a)


@device
def _exponential(u, out):
    for j in range(u.size):
        out[j] = _HALF * _exp(-abs(u[j]))


@device
def _shifted(u, out):
    for j in range(u.size):
        a = u[j] - _HALF
        out[j] = _ROOT_TWO_PI * _exp(-_HALF * a * a)


@device
def _logarithm(u, out):
    for j in range(u.size):
        out[j] = _ONE / (_ONE + abs(u[j]))


@device
def _step(u, out):
    for j in range(u.size):
        out[j] = np.float32(u[j] >= _ZERO)


@device
def _shape(family, u, out):
    if family == 0:
        _triangle(u, out)
    elif family == 1:
        _rectangle(u, out)
    elif family == 2:
        _atan(u, out)
    elif family == 3:
        _sigmoid(u, out)
    elif family == 4:
        _gaussian(u, out)
    elif family == 5:
        _softsign(u, out)
    elif family == 6:
        _exponential(u, out)
    elif family == 7:
        _shifted(u, out)
    elif family == 8:
        _logarithm(u, out)
    else:
        _step(u, out)


@device
def fill_slopes(plan, v, sharpness, u, out):
    """Writes the surrogate derivative at the membranes `v`; `u` is scratch memory."""
    threshold, peak, floor = (
        np.float32(plan.threshold),
        np.float32(plan.peak),
        np.float32(plan.floor),
    )
    for j in range(v.size):
        u[j] = sharpness[j] * (v[j] - threshold)
    _shape(plan.family, u, out)
    for j in range(v.size):
        out[j] = peak * sharpness[j] * out[j] + floor
