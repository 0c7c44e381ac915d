"""Bounds of spikes: the membrane recursion on intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.certificates.interval import Interval
from robust_snn.kernels import Dynamics
from robust_snn.neurons import LIF


class MembraneBounds(NamedTuple):
    """What is known of one spiking layer.

    Attributes:
        spikes: Bounds of the spikes `[T, B, ...]`, each 0 or 1; where both differ, the spike is
            undecided.
        distances: Bounds of `v - threshold` before firing, `[T, B, ...]`.
    """

    spikes: Interval
    distances: Interval


def step_factors(layer: LIF, steps: int) -> list[tuple[float, float]]:
    """What the carried membrane and the current of each step are multiplied with."""
    carried, drive = (
        [1.0] * steps if gain is None else gain.tolist() for gain in layer.gains(steps)
    )
    dynamics = layer.dynamics
    return [(dynamics.decay * a, dynamics.gain * b) for a, b in zip(carried, drive, strict=True)]


def decided(distance: Tensor, tolerance: float) -> Tensor:
    """1 where a membrane is at or above the threshold by more than the tolerance, else 0."""
    return (distance >= tolerance).to(distance.dtype)


def bound_spikes(
    layer: LIF,
    current: Interval,
    steps: int,
    tolerance: float,
    fire: Callable[[Tensor, float], Tensor] = decided,
) -> MembraneBounds:
    """Bounds of the spikes of a layer for all currents within bounds.

    Args:
        layer: The layer.
        current: `[T, B, ...]`, or `[1, B, ...]` when it is the same at every step.
        steps: Number of time steps.
        tolerance: A spike counts as decided only where the membrane is farther than this from the
            threshold, so that the bounds hold for any rounding of membranes that is smaller.
        fire: Spikes of distances from the threshold; one with a gradient trains bounds.
    """
    dynamics = layer.dynamics
    start = dynamics.v_reset if dynamics.reset == "hard" else 0.0
    at_rest = torch.full_like(current.lower[0], start)
    membrane, spikes, distances = Interval(at_rest, at_rest), [], []
    for step, (decay, gain) in enumerate(step_factors(layer, steps)):
        v = membrane * decay + current[step if len(current) > 1 else 0] * gain
        distance = v + -dynamics.threshold
        fired = Interval(fire(distance.lower, tolerance), fire(distance.upper, -tolerance))
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


def _stacked(steps: list[Interval]) -> Interval:
    return Interval(torch.stack([s.lower for s in steps]), torch.stack([s.upper for s in steps]))
