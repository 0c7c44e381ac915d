"""Philox4x32-10 on blocks of neurons, bit for bit the numbers of `robust_snn.kernels.philox`."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from robust_snn.kernels.numba_tools.compile import helper
from robust_snn.kernels.numba_tools.vectors import LANES, data_of, place_at, splat
from robust_snn.kernels.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

TOGETHER = 4  # vectors of neurons at once: a product waits for the one before it
SPARE = TOGETHER * LANES  # neurons that memory must have room for beyond those of a block
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_PAIRS = ir.VectorType(_LONG, LANES // 2)


@helper
def philox_quad(key, neurons, quad, layer, purpose, words):
    """Fills `words` `[4, >= n + SPARE]` for `n` neurons and the steps `4 quad ... 4 quad + 3`.

    A word is the 24 bits that `uniform` keeps. `neurons` has `SPARE` more than `n`.
    """
    for j in range(0, neurons.size - SPARE, SPARE):
        _draw(key, neurons, quad, layer, purpose, words, words.shape[1], j)


@intrinsic
def _draw(typing, key, neurons, quad, layer, purpose, words, stride, first):
    """Writes the four words of `SPARE` neurons, from the first on.

    A vector of 32-bit neurons is two vectors of 64-bit lanes: the even ones, and the odd ones moved
    down. What gathers in the upper halves of lanes never matters, so nothing clears it.
    """

    def generate(context, builder, signature, arguments):
        neurons, words = data_of(context, builder, signature, arguments, 1, 5)
        key, _, quad, layer, purpose, _, stride, first = (
            builder.zext(value, _LONG) if value.type == _WORD else value for value in arguments
        )
        lanes = _Lanes(builder)
        vectors = [
            builder.bitcast(
                builder.load(place_at(builder, neurons, builder.add(first, _LONG(j))), align=4),
                _PAIRS,
            )
            for j in range(0, SPARE, LANES)
        ]
        counters = [
            (counter, quad, layer, purpose)
            for vector in vectors
            for counter in (vector, lanes.high(vector))
        ]
        k0, k1 = lanes.low(key), lanes.high(key)
        for _ in range(ROUNDS):
            counters = [lanes.round(counter, k0, k1) for counter in counters]
            k0, k1 = (
                lanes.low(builder.add(k, _LONG(weyl))) for k, weyl in ((k0, WEYL_0), (k1, WEYL_1))
            )
        for group in range(TOGETHER):
            evens, odds = counters[2 * group : 2 * group + 2]
            for word, (even, odd) in enumerate(zip(evens, odds, strict=True)):
                row = builder.add(builder.mul(stride, _LONG(word)), _LONG(group * LANES))
                place = place_at(builder, words, builder.add(first, row))
                kept = builder.lshr(lanes.merge(even, odd), splat(builder, _WORD(8), LANES))
                builder.store(kept, place, align=4)
        return context.get_dummy_value()

    kinds = key, neurons, quad, layer, purpose, words, stride, first
    return types.void(*kinds), generate


class _Lanes:
    """Arithmetic on 64-bit numbers, each the same in all lanes or one for each lane."""

    def __init__(self, builder):
        self.builder = builder

    def _alike(self, *values):
        if any(value.type == _PAIRS for value in values):
            return [v if v.type == _PAIRS else splat(self.builder, v, LANES // 2) for v in values]
        return values

    def _apply(self, operation, a, b):
        return getattr(self.builder, operation)(*self._alike(a, b))

    def low(self, a):
        return self._apply("and_", a, _LONG(0xFFFFFFFF))

    def high(self, a):
        return self._apply("lshr", a, _LONG(32))

    def round(self, counter, k0, k1):
        c0, c1, c2, c3 = counter
        p0 = self._apply("mul", self.low(c0), _LONG(MULTIPLIER_0))
        p1 = self._apply("mul", self.low(c2), _LONG(MULTIPLIER_1))
        c0 = self._apply("xor", self._apply("xor", self.high(p1), c1), k0)
        c2 = self._apply("xor", self._apply("xor", self.high(p0), c3), k1)
        return c0, p1, c2, p0

    def merge(self, even, odd):
        """The lower halves of two, lane by lane, as 32-bit lanes."""
        words = ir.VectorType(_WORD, LANES)
        even, odd = (self.builder.bitcast(value, words) for value in self._alike(even, odd))
        places = [lane // 2 * 2 + lane % 2 * LANES for lane in range(LANES)]
        return self.builder.shuffle_vector(even, odd, ir.VectorType(_WORD, LANES)(places))
