"""Products of spikes by their bits: 32 to a word, AND, and a count of what is left."""

# mypy: allow-untyped-defs, disable-error-code="call-arg,var-annotated"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np
from numba.extending import intrinsic

from robust_snn.kernels.numba_tools.compile import helper
from robust_snn.kernels.numba_tools.vectors import LANES, active_lanes

WORD = 2 * LANES  # bits
_LOW, _HALF, _NONE = np.uint32(0xFFFF), np.uint32(LANES), np.uint32(0)
_ONE = np.float32(1)


@intrinsic
def _ones(typing, word):
    """The number of bits of a word that are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return word(word), generate


@helper
def _word(values, at):
    """`WORD` values as bits, and in the upper half of the second number which are not 0 or 1."""
    low, high = active_lanes(values, at, _ONE), active_lanes(values, at + LANES, _ONE)
    return np.uint32(low & _LOW) | np.uint32(high << _HALF), np.uint32(low | high)


@helper
def pack_rows(values, first, step, rows, width, words):
    """Packs `WORD` values of a row to a word: `words[width / WORD, rows]`.

    Returns whether all are spikes, 0 or 1.
    """
    last, whole = np.zeros(WORD, np.float32), width // WORD
    for i in range(rows):
        at, odd = first + i * step, _NONE
        for w in range(whole):
            words[w, i], found = _word(values, at + w * WORD)
            odd |= found
        if whole < len(words):
            for j in range(width - whole * WORD):
                last[j] = values[at + whole * WORD + j]
            words[whole, i], found = _word(last, 0)
            odd |= found
        if np.uint32(odd >> _HALF) != _NONE:
            return False
    return True


@helper
def pack_columns(values, first, step, rows, width, words):
    """Packs `WORD` values of a column to a word: `words[rows / WORD, width]`.

    Returns whether all are spikes, 0 or 1.
    """
    for w in range(len(words)):
        word = words[w]
        word[:] = _NONE
        for i in range(w * WORD, min(rows, (w + 1) * WORD)):
            at, place, odd = first + i * step, np.uint32(i - w * WORD), _NONE
            row = values[at : at + width]
            for j in range(row.size):
                active = np.uint32(row[j] != 0)
                odd |= np.uint32(active & np.uint32(row[j] != _ONE))
                word[j] |= np.uint32(active << place)
            if odd != _NONE:
                return False
    return True


@helper
def count_pairs(left, right, out):
    """`out[i, j]`, the number of bits that `left[:, i]` and `right[:, j]` share."""
    for i in range(len(out)):
        row, mine, others = out[i], left[0, i], right[0]
        for j in range(row.size):
            row[j] = np.float32(np.int32(_ones(np.uint32(mine & others[j]))))
        for w in range(1, len(left)):
            mine, others = left[w, i], right[w]
            for j in range(row.size):
                row[j] += np.float32(np.int32(_ones(np.uint32(mine & others[j]))))
