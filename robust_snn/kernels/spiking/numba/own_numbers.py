"""Leaks and thresholds in loops over neurons: of the whole layer, or of every neuron its own.

Numba decides by the types when it compiles, so that a layer that shares them runs as it would
without this file. A decay is a number or a row of them. A threshold is

    a number                    of a plain neuron
    a row                       the threshold that each neuron had in a step
    (lowest, apart, most)       of spikes of several levels: up to `1 + most`
    (row, rates, usual)         a row that follows the membranes, see `spec.Homeostasis`
"""

# mypy: ignore-errors
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LARGEST = np.finfo(np.float32).max
_AS_KERNELS = {"error_model": "numpy"}  # a division that is checked would not be vectorised


def decay_of(decay, j):
    """The decay of neuron `j` of a row."""


@overload(decay_of, jit_options=_AS_KERNELS)
def _decay_of(decay, j):
    if isinstance(decay, types.Array):
        return lambda decay, j: decay[j]
    return lambda decay, j: decay


def fire(threshold, j, membrane, hard, reset_value):
    """The spike of neuron `j`, and its membrane after the reset."""


@overload(fire, jit_options=_AS_KERNELS)
def _fire(threshold, j, membrane, hard, reset_value):
    if _has_levels(threshold):

        def count(threshold, j, membrane, hard, reset_value):
            below = _levels_below(threshold, membrane)
            above = (membrane - threshold[0]) - threshold[1] * below >= _ZERO
            spike = below + (_ONE if above else _ZERO)
            return spike, membrane + reset_value * spike

        return count
    if _adapts(threshold):

        def adapt(threshold, j, membrane, hard, reset_value):
            own = threshold[0][j] + threshold[1][j] * (membrane - threshold[2][j])
            threshold[0][j] = own
            fires = membrane - own >= _ZERO
            after = reset_value if hard else membrane + reset_value
            silent = _LARGEST if hard and membrane > _LARGEST else membrane  # as in the reference
            return (_ONE if fires else _ZERO), (after if fires else silent)

        return adapt

    def plain(threshold, j, membrane, hard, reset_value):
        fires = membrane >= threshold
        after = reset_value if hard else membrane + reset_value
        return (_ONE if fires else _ZERO), (after if fires else membrane)

    return plain


def distance(threshold, j, membrane):
    """How far a membrane is above the threshold, of several above the nearest."""


@overload(distance, jit_options=_AS_KERNELS)
def _distance(threshold, j, membrane):
    if _has_levels(threshold):

        def from_nearest(threshold, j, membrane):
            return (membrane - threshold[0]) - threshold[1] * _levels_below(threshold, membrane)

        return from_nearest
    if _adapts(threshold):
        return lambda threshold, j, membrane: membrane - threshold[0][j]
    if isinstance(threshold, types.Array):
        return lambda threshold, j, membrane: membrane - threshold[j]
    return lambda threshold, j, membrane: membrane - threshold


def _levels_below(threshold, membrane):
    """Number of thresholds below the one that is nearest to a membrane; NaN of NaN."""


@overload(_levels_below, jit_options=_AS_KERNELS)
def _count_levels_below(threshold, membrane):
    def count(threshold, membrane):
        nearest = np.floor((membrane - threshold[0]) / threshold[1] + _HALF)
        nearest = _ZERO if nearest < _ZERO else nearest
        return threshold[2] if nearest > threshold[2] else nearest

    return count


def _has_levels(threshold):
    return isinstance(threshold, types.BaseTuple) and isinstance(threshold[0], types.Float)


def _adapts(threshold):
    return isinstance(threshold, types.BaseTuple) and isinstance(threshold[0], types.Array)


def decay_at(args, steps, leaks, t, b, here, out):
    """The decay of step `t`: a number, or that of each neuron of a block, which may be `out`."""


@overload(decay_at, jit_options=_AS_KERNELS)
def _decay_at(args, steps, leaks, t, b, here, out):
    if isinstance(leaks, types.NoneType):
        return lambda args, steps, leaks, t, b, here, out: steps[0, t]

    def scaled(args, steps, leaks, t, b, here, out):
        rows = leaks[t if leaks.shape[0] > 1 else 0]
        row = rows[b if rows.shape[0] > 1 else 0, here]
        decay = np.float32(args.decay)
        if decay == _ONE:
            return row
        for j in range(out.size):
            out[j] = decay * row[j]
        return out

    return scaled


def threshold_at(args, own, t, here, thresholds):
    """The threshold of step `t`, of the kinds above.

    `own` is None, or `(apart, most)` of several levels, or the rates `[N]` and usual membranes
    `[T, N]` of thresholds that adapt, which are `thresholds` so far.
    """


@overload(threshold_at, jit_options=_AS_KERNELS)
def _threshold_at(args, own, t, here, thresholds):
    if isinstance(own, types.NoneType):
        return lambda args, own, t, here, thresholds: np.float32(args.threshold)
    if isinstance(own[0], types.Float):

        def several(args, own, t, here, thresholds):
            return np.float32(args.threshold), own[0], own[1]

        return several

    def adapting(args, own, t, here, thresholds):
        return thresholds, own[0][here], own[1][t, here]

    return adapting


def edge_at(args, own, t, here, thresholds):
    """What membranes of step `t` were compared with; `thresholds` are those of all steps."""


@overload(edge_at, jit_options=_AS_KERNELS)
def _edge_at(args, own, t, here, thresholds):
    if isinstance(own, types.BaseTuple) and isinstance(own[0], types.Array):

        def kept(args, own, t, here, thresholds):
            return thresholds[t, : here.stop - here.start]

        return kept
    return lambda args, own, t, here, thresholds: threshold_at(args, own, t, here, thresholds)


def start_thresholds(args, own, thresholds):
    """Sets thresholds that adapt to what they are before the first step."""


@overload(start_thresholds, jit_options=_AS_KERNELS)
def _start_thresholds(args, own, thresholds):
    if isinstance(own, types.BaseTuple) and isinstance(own[0], types.Array):

        def fill(args, own, thresholds):
            for j in range(thresholds.size):
                thresholds[j] = np.float32(args.threshold)

        return fill
    return lambda args, own, thresholds: None
