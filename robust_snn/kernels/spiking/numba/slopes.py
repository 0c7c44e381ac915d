"""Surrogate derivatives on blocks of neurons, chosen by an integer code.

The codes are positions in `robust_snn.kernels.spiking.surrogates.FAMILIES`; a test compares every
row. The exponential is a polynomial, since LLVM can vectorise that and not a call into libm.
"""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.spiking.numba.compile import device

_HALF_PI = np.float32(np.pi / 2)
_LOG2_E = np.float32(1 / np.log(2))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ONE, _HALF = np.float32(1), np.float32(0.5)
# Minimax coefficients of (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2 (Cephes expf).
_P0, _P1 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3)
_P2, _P3 = np.float32(8.3334519073e-3), np.float32(4.1665795894e-2)
_P4, _P5 = np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@device
def _exp(x):
    """`exp(x)` for `x <= 0`, to 2 units in the last place; zero below the smallest normal."""
    x = max(x, np.float32(-87.0))
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.int32((np.int32(n) + np.int32(127)) << 23).view(np.float32)
    return (p * r * r + r + _ONE) * power


@device
def _triangle(z, sharpness, scale, out):
    for j in range(z.size):
        out[j] = scale * sharpness[j] * max(_ONE - abs(sharpness[j] * z[j]), np.float32(0))


@device
def _rectangle(z, sharpness, scale, out):
    for j in range(z.size):
        inside = np.float32(abs(sharpness[j] * z[j]) < _HALF)
        out[j] = scale * sharpness[j] * inside


@device
def _atan(z, sharpness, scale, out):
    for j in range(z.size):
        u = _HALF_PI * sharpness[j] * z[j]
        out[j] = scale * sharpness[j] * _HALF / (_ONE + u * u)


@device
def _sigmoid(z, sharpness, scale, out):
    for j in range(z.size):
        tail = _exp(-abs(sharpness[j] * z[j]))
        out[j] = scale * sharpness[j] * tail / ((_ONE + tail) * (_ONE + tail))


@device
def fill_slopes(family, z, sharpness, scale, out):
    """Writes the surrogate derivative at every `z`; `sharpness` has one value per neuron."""
    if family == 0:
        _triangle(z, sharpness, scale, out)
    elif family == 1:
        _rectangle(z, sharpness, scale, out)
    elif family == 2:
        _atan(z, sharpness, scale, out)
    elif family == 3:
        _sigmoid(z, sharpness, scale, out)
