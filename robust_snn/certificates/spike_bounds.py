"""Bounds of spikes: the membrane recursion on intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.certificates.interval import Interval
from robust_snn.kernels import Dynamics


class MembraneBounds(NamedTuple):
    """What is known of one spiking layer.

    Attributes:
        spikes: Bounds of the spikes `[T, B, ...]`, each 0 or 1; where both differ, the spike is
            undecided.
        distances: Bounds of `v - threshold` before firing, `[T, B, ...]`.
    """

    spikes: Interval
    distances: Interval


def fires(distance: Tensor) -> Tensor:
    """Spikes, zeros and ones, at distances from the threshold."""
    return (distance >= 0).to(distance.dtype)


def bound_spikes(
    current: Interval,
    steps: int,
    dynamics: Dynamics,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
    tolerance: float,
    fire: Callable[[Tensor], Tensor] = fires,
) -> MembraneBounds:
    """Bounds of the spikes of a layer for all currents within bounds.

    Args:
        current: `[T, B, ...]`, or `[1, B, ...]` when it is the same at every step.
        steps: Number of time steps.
        dynamics: Constants of the membrane equation.
        membrane_gain: Factors per step `[T]` on the carried membrane, or None for one.
        input_gain: Factors per step `[T]` on the current, or None for one.
        tolerance: A spike counts as decided only where the membrane is farther than this from the
            threshold, so that the bounds hold for any rounding of membranes that is smaller.
        fire: The step function; training brings one that has a gradient.
    """
    start = dynamics.v_reset if dynamics.reset == "hard" else 0.0
    at_rest = torch.full_like(current.lower[0], start)
    membrane, spikes, distances = Interval(at_rest, at_rest), [], []
    for step in range(steps):
        carried = membrane * (dynamics.decay * _factor(membrane_gain, step))
        drive = current[step if len(current) > 1 else 0]
        v = carried + drive * (dynamics.gain * _factor(input_gain, step))
        distance = v + -dynamics.threshold
        fired = Interval(fire(distance.lower - tolerance), fire(distance.upper + tolerance))
        spikes.append(fired)
        distances.append(distance)
        membrane = _after_reset(v, fired, dynamics, tolerance)
    return MembraneBounds(_stacked(spikes), _stacked(distances))


def _after_reset(v: Interval, spikes: Interval, dynamics: Dynamics, tolerance: float) -> Interval:
    """Bounds of the membrane that is carried on: of the reset one, the silent one, or of both."""
    surely, possibly = spikes.lower > 0, spikes.upper > 0
    silent = Interval(v.lower, v.upper.clamp(max=dynamics.threshold + tolerance))
    if dynamics.reset == "hard":
        rest = torch.full_like(v.lower, dynamics.v_reset)
        reset = Interval(rest, rest)
    else:
        fired = Interval(v.lower.clamp(min=dynamics.threshold - tolerance), v.upper)
        reset = fired + dynamics.reset_value
    lower = torch.where(possibly, torch.minimum(silent.lower, reset.lower), v.lower)
    upper = torch.where(possibly, torch.maximum(silent.upper, reset.upper), v.upper)
    return Interval(
        torch.where(surely, reset.lower, lower), torch.where(surely, reset.upper, upper)
    )


def _factor(gain: Tensor | None, step: int) -> Tensor | float:
    return 1.0 if gain is None else gain[step]


def _stacked(steps: list[Interval]) -> Interval:
    return Interval(torch.stack([s.lower for s in steps]), torch.stack([s.upper for s in steps]))
