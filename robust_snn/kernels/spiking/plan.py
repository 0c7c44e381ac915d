"""The numbers of a spiking loop as one flat tuple, which every compiled backend takes as it is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from robust_snn.kernels.spiking.spec import Bptt, Dynamics, Gate, Rule
from robust_snn.kernels.spiking.surrogates import FAMILIES


class Back(IntEnum):
    """How a backward pass treats time."""

    THROUGH_TIME = 0  # exact recursion
    FIRED = 1  # slope where the neuron fired at all


class Gating(IntEnum):
    """What multiplies the spikes."""

    NONE = 0
    DRAW = 1
    MEAN = 2


class Plan(NamedTuple):
    """Everything but the tensors; the names are those of `Dynamics`, `Surrogate` and `Gate`."""

    steps: int
    decay: float
    threshold: float
    gain: float
    v_reset: float
    hard: bool
    back: int
    detach_reset: bool
    family: int
    sharpness: float
    peak: float
    gating: int
    layer: int


def make_plan(dynamics: Dynamics, rule: Rule, steps: int, gate: Gate | None) -> Plan:
    """Collects the numbers of one call."""
    back, detach, family, sharpness, peak = Back.FIRED, False, 0, 1.0, 1.0
    if isinstance(rule, Bptt):
        back, detach = Back.THROUGH_TIME, rule.detach_reset
        family = list(FAMILIES).index(rule.surrogate.family)
        sharpness, peak = rule.surrogate.sharpness, rule.surrogate.scale
    gating = Gating.NONE if gate is None else Gating.MEAN if gate.mean else Gating.DRAW
    return Plan(
        steps=steps,
        decay=dynamics.decay,
        threshold=dynamics.threshold,
        gain=dynamics.gain,
        v_reset=dynamics.v_reset,
        hard=dynamics.reset == "hard",
        back=int(back),
        detach_reset=detach,
        family=family,
        sharpness=sharpness,
        peak=peak,
        gating=int(gating),
        layer=0 if gate is None else gate.layer,
    )
