"""Codes of what a kernel can be told to do, for all compiled backends.

Numba's kernels read them as plain numbers and Triton's as compile-time constants, always by name.
"""

from __future__ import annotations

from enum import IntEnum


class Time(IntEnum):
    """What a backward pass does to time: the kind of rule, see `rules`."""

    RECURSION = 0
    RATE_SLOPE = 1
    AVERAGE = 2


class Saved(IntEnum):
    """What a forward pass saves of each neuron, as bytes."""

    NOTHING = 0
    FIRED = 1  # one byte: 1 where it fired
    MEAN_DRIVE = 2  # one byte: 0 outside the edges, 1 below and 2 above the lower one
    MEMBRANE = 3  # a byte per step: its spike and how far from the threshold it was


class Randomness(IntEnum):
    """What a gate or membrane noise does."""

    NONE = 0
    DRAW = 1
    MEAN = 2  # its mean stands in for draws


class Shape(IntEnum):
    """Unit shapes of the surrogates; the names are those of `surrogate_shapes.UNIT_SHAPES`."""

    TRIANGLE = 0
    RECTANGLE = 1
    ATAN = 2
    SIGMOID = 3
    GAUSSIAN = 4
    SOFTSIGN = 5
    EXPONENTIAL = 6
    SHIFTED = 7
    LOGARITHM = 8
    STEP = 9
