"""Philox4x32-10 on blocks of neurons, bit for bit the numbers of `robust_snn.kernels.philox`."""

# mypy: allow-untyped-defs
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np

from robust_snn.kernels.numba_tools.compile import helper

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_LOW, _HALF, _REST = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint32(8)


@helper
def philox_quad(key, neurons, quad, layer, purpose, words):
    """Fills `words` `[4, >= n]` for `n` neurons and the steps `4 quad ... 4 quad + 3`.

    A word is the 24 bits that `uniform` keeps. Counters lie in the lower halves of 64-bit lanes;
    what gathers in the upper halves never matters, so nothing clears it. A vector unit then
    multiplies without moving lanes about, in a third of the time.
    """
    low, high = np.uint64(key) & _LOW, np.uint64(key) >> _HALF
    for j in range(neurons.size):
        c0, c1 = np.uint64(neurons[j]), np.uint64(quad)
        c2, c3 = np.uint64(layer), np.uint64(purpose)
        k0, k1 = low, high
        for _ in range(_ROUNDS):
            p0 = _MULTIPLIER_0 * (c0 & _LOW)
            p1 = _MULTIPLIER_1 * (c2 & _LOW)
            c0 = (p1 >> _HALF) ^ c1 ^ k0
            c2 = (p0 >> _HALF) ^ c3 ^ k1
            c1, c3 = p1, p0
            k0, k1 = k0 + _WEYL_0, k1 + _WEYL_1
        words[0, j] = np.uint32(c0) >> _REST
        words[1, j] = np.uint32(c1) >> _REST
        words[2, j] = np.uint32(c2) >> _REST
        words[3, j] = np.uint32(c3) >> _REST
