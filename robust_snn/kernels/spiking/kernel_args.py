"""The numbers of a spiking loop as one flat tuple, which every compiled backend takes as it is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

from robust_snn.kernels.spiking.firing_probability import CUMULATIVE
from robust_snn.kernels.spiking.spec import (
    Bptr,
    Bptt,
    Dynamics,
    FixedRule,
    Gate,
    Hart,
    Noise,
    Rga,
    Surrogate,
)
from robust_snn.kernels.spiking.surrogate_shapes import FAMILIES


class Back(IntEnum):
    """How a backward pass treats time."""

    EXACT = 0  # recursion through time
    RATE = 1  # one slope per neuron, chosen by its zone
    MERGED = 2  # surrogate of each step, merged over time


class Zoning(IntEnum):
    """What a forward pass remembers of each neuron, as one byte."""

    NONE = 0
    FIRED = 1  # 1 where it fired
    MEAN = 2  # 0 outside, 1 below and 2 above the lower edge of the mean current
    CODE = 3  # at every step, its spike and how far from the threshold it was


def zone_steps(plan: Plan) -> int:
    """The bytes that `plan.zoning` takes for each neuron."""
    return {Zoning.NONE: 0, Zoning.CODE: plan.steps}.get(Zoning(plan.zoning), 1)


class Mode(IntEnum):
    """What a random draw does."""

    NONE = 0
    DRAW = 1
    MEAN = 2


class Plan(NamedTuple):
    """Everything but the tensors."""

    steps: int
    decay: float
    threshold: float
    gain: float
    jump: float
    hard: bool
    back: int
    detach_reset: bool
    family: int
    sharpness: float
    peak: float  # scale of the surrogate
    floor: float
    zoning: int
    lower_edge: float
    upper_edge: float
    lower_slope: float
    upper_slope: float
    gating: int
    layer: int
    firing: int
    noise_family: int
    noise_sharpness: float
    noise_layer: int


class Parameters(NamedTuple):
    """The tensors of a layer besides its current; see `spiking_loop`."""

    scale: Tensor | None
    shift: Tensor | None
    membrane_gain: Tensor | None
    input_gain: Tensor | None
    probability: Tensor | None
    gate_keys: Tensor | None
    noise_keys: Tensor | None


def _mode(source: Gate | Noise | None) -> int:
    if source is None:
        return int(Mode.NONE)
    return int(Mode.MEAN if source.mean else Mode.DRAW)


def make_plan(
    dynamics: Dynamics, rule: FixedRule, steps: int, gate: Gate | None, noise: Noise | None
) -> Plan:
    """Collects the numbers of one call."""
    surrogate = rule.surrogate if isinstance(rule, Bptt | Hart) else Surrogate("triangle", 1.0)
    back, zoning, slopes, edges = Back.EXACT, Zoning.NONE, (0.0, 0.0), (0.0, 0.0)
    if isinstance(rule, Hart):
        back = Back.MERGED
    elif isinstance(rule, Bptt) and rule.compact:
        zoning = Zoning.CODE
    elif isinstance(rule, Bptr):
        back, zoning, slopes = Back.RATE, Zoning.FIRED, (1 / dynamics.threshold, 0.0)
    elif isinstance(rule, Rga):
        back, zoning, slopes = Back.RATE, Zoning.MEAN, rule.slopes(dynamics)
        edges = (1 - dynamics.decay) * dynamics.threshold, rule.beta * dynamics.threshold
    return Plan(
        steps=steps,
        decay=dynamics.decay,
        threshold=dynamics.threshold,
        gain=dynamics.gain,
        jump=dynamics.jump,
        hard=dynamics.reset == "hard",
        back=int(back),
        detach_reset=isinstance(rule, Bptt) and rule.detach_reset,
        family=list(FAMILIES).index(surrogate.family),
        sharpness=surrogate.sharpness,
        peak=surrogate.scale,
        floor=surrogate.floor,
        zoning=int(zoning),
        lower_edge=edges[0],
        upper_edge=edges[1],
        lower_slope=slopes[0],
        upper_slope=slopes[1],
        gating=_mode(gate),
        layer=0 if gate is None else gate.layer,
        firing=_mode(noise),
        noise_family=0 if noise is None else list(CUMULATIVE).index(noise.family),
        noise_sharpness=1.0 if noise is None else noise.sharpness,
        noise_layer=0 if noise is None else noise.layer,
    )
