"""Philox4x32-10 on blocks of neurons, bit for bit the numbers of `robust_snn.kernels.philox`."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.spiking.numba.compile import device

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10
_UNIT = np.float32(2.0**-24)


@device
def draw_quad(key, neurons, quad, layer, purpose, uniform):
    """Fills `uniform` `[4, >= n]` for `n` neurons and the steps `4 quad ... 4 quad + 3`."""
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32((key >> 32) & 0xFFFFFFFF)
    for j in range(neurons.size):
        c0, c1 = neurons[j], np.uint32(quad)
        c2, c3 = np.uint32(layer), np.uint32(purpose)
        k0, k1 = low, high
        for _ in range(_ROUNDS):
            p0 = _MULTIPLIER_0 * np.uint64(c0)
            p1 = _MULTIPLIER_1 * np.uint64(c2)
            c0 = np.uint32(np.uint32(np.uint32(p1 >> np.uint64(32)) ^ c1) ^ k0)
            c2 = np.uint32(np.uint32(np.uint32(p0 >> np.uint64(32)) ^ c3) ^ k1)
            c1, c3 = np.uint32(p1), np.uint32(p0)
            k0, k1 = np.uint32(k0 + _WEYL_0), np.uint32(k1 + _WEYL_1)
        uniform[0, j] = np.float32(c0 >> np.uint32(8)) * _UNIT
        uniform[1, j] = np.float32(c1 >> np.uint32(8)) * _UNIT
        uniform[2, j] = np.float32(c2 >> np.uint32(8)) * _UNIT
        uniform[3, j] = np.float32(c3 >> np.uint32(8)) * _UNIT
