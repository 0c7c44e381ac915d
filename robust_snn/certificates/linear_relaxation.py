"""Linear relaxation of spikes: lower bounds of logits' differences by backward substitution.

An undecided spike lies between two lines in its membrane, and so does the membrane after its reset
(S-CROWN, after CROWN, NeurIPS 2018). Which of the two bounds the result from below depends on the
sign of the factor that the result has on them. Those factors are what a backward pass computes, so
autograd makes the substitution; a second forward pass along the chosen lines, at the corner of the
box where they are lowest, gives the bound.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from robust_snn.certificates.bounded_network import BoundedNetwork
from robust_snn.certificates.interval import Interval
from robust_snn.certificates.spike_bounds import MembraneBounds, step_factors
from robust_snn.kernels import Dynamics
from robust_snn.neurons import LIF

Line = tuple[Tensor, Tensor]  # slope and offset


class Relaxed:
    """A function between two lines, elementwise: substituted first, then followed.

    Args:
        below: The line below it.
        above: The line above it.
    """

    def __init__(self, below: Line, above: Line) -> None:
        self.below = below
        self.above = above
        self.chosen: Line | None = None

    def __call__(self, z: Tensor) -> Tensor:
        if self.chosen is None:
            out: Tensor = _Substitute.apply(z, self)
            return out
        return self.chosen[0] * z + self.chosen[1]

    def choose(self, factor: Tensor) -> None:
        """Chooses the line that bounds `factor` times the function from below."""
        lines = zip(self.above, self.below, strict=True)
        slope, offset = (torch.where(factor < 0, above, below) for above, below in lines)
        self.chosen = slope, offset


class _Substitute(torch.autograd.Function):
    """A relaxed function whose backward pass chooses its line."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, relaxed: Relaxed) -> Tensor:
        ctx.relaxed = relaxed
        return relaxed.below[0] * z + relaxed.below[1]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        ctx.relaxed.choose(upstream[0])
        return upstream[0] * ctx.relaxed.chosen[0], None


class _Layer(NamedTuple):
    """The relaxed spikes of a layer, one function per step, and its membranes after them."""

    spikes: list[Relaxed]
    resets: list[Relaxed]


def relaxed_differences(
    network: BoundedNetwork,
    images: Interval,
    labels: Tensor,
    layers: list[MembraneBounds],
    classes: int,
) -> Tensor:
    """Lower bounds of how far the logit of a label leads each other one in a box.

    Args:
        network: The network.
        images: Bounds of the pixels, `[B, ...]`.
        labels: `[B]`.
        layers: Bounds of every spiking layer in that box.
        classes: Number of classes `K`.

    Returns:
        `[B, K]`; 0 at the label itself.
    """
    box = images.map(lambda end: end.repeat_interleave(classes, 0))
    own = labels.repeat_interleave(classes)
    rival = torch.arange(classes, device=own.device).repeat(len(labels))
    relaxed: list[_Layer] = []

    def relax(layer: LIF, current: Tensor, steps: int) -> Tensor:
        bounds = layers[len(relaxed)].distances
        each = bounds.map(lambda end: end.repeat_interleave(classes, 1))
        relaxed.append(_relaxed_layer(each, layer.dynamics, network.tolerance))
        return _spikes(layer, current, steps, relaxed[-1])

    def follow(layer: LIF, current: Tensor, steps: int) -> Tensor:
        return _spikes(layer, current, steps, relaxed.pop(0))

    x = ((box.lower + box.upper) / 2).requires_grad_()
    with torch.enable_grad():
        (factor,) = torch.autograd.grad(_lead(network.run(x, relax), own, rival).sum(), x)
    with torch.no_grad():
        lowest = torch.where(factor > 0, box.lower, box.upper)
        return _lead(network.run(lowest, follow), own, rival).unflatten(0, (-1, classes))


def _lead(logits: Tensor, own: Tensor, rival: Tensor) -> Tensor:
    return (logits.gather(1, own[:, None]) - logits.gather(1, rival[:, None]))[:, 0]


def _spikes(layer: LIF, current: Tensor, steps: int, relaxed: _Layer) -> Tensor:
    """The membrane recursion with relaxed spikes, `[T, B, ...]`."""
    dynamics = layer.dynamics
    hard = dynamics.reset == "hard"
    membrane: Tensor | float = dynamics.v_reset if hard else 0.0
    spikes = []
    rows = zip(*relaxed, step_factors(layer, steps), strict=True)
    for step, (fire, reset, (decay, gain)) in enumerate(rows):
        v = decay * membrane + gain * current[step if len(current) > 1 else 0]
        distance = v - dynamics.threshold
        spikes.append(fire(distance))
        membrane = reset(distance) if hard else v + dynamics.reset_value * spikes[-1]
    return torch.stack(spikes)


def _relaxed_layer(distances: Interval, dynamics: Dynamics, tolerance: float) -> _Layer:
    """Lines for distances `v - threshold` within bounds `[T, B, ...]`."""
    ends = list(zip(distances.lower, distances.upper, strict=True))
    return _Layer(
        [_relaxed_step(*each, tolerance) for each in ends],
        [_relaxed_reset(*each, dynamics, tolerance) for each in ends],
    )


def _relaxed_step(low: Tensor, high: Tensor, tolerance: float) -> Relaxed:
    """The step at 0, which rounding may move by the tolerance, on `[low, high]`."""
    one, zero = torch.ones_like(low), torch.zeros_like(low)
    surely, never = low >= tolerance, high < -tolerance
    rise = 1 / (-tolerance - low).clamp(min=tolerance)  # from (low, 0) to (-tolerance, 1)
    slanted = ~surely & ~never & (low < -2 * tolerance) & (-low >= high)
    above = torch.where(slanted, rise, zero), torch.where(slanted, 1 + tolerance * rise, one)
    rise = 1 / (high - tolerance).clamp(min=tolerance)  # from (tolerance, 0) to (high, 1)
    slanted = ~surely & ~never & (high > 2 * tolerance) & (high > -low)
    below = torch.where(slanted, rise, zero), torch.where(slanted, -tolerance * rise, zero)
    decided = surely.to(low.dtype)
    fixed = surely | never
    return Relaxed(
        (below[0], torch.where(fixed, decided, below[1])),
        (above[0], torch.where(fixed, decided, above[1])),
    )


def _relaxed_reset(low: Tensor, high: Tensor, dynamics: Dynamics, tolerance: float) -> Relaxed:
    """The membrane after a hard reset on `[low, high]`: `z + threshold` below 0, else `v_reset`."""
    threshold = dynamics.threshold
    one, zero = torch.ones_like(low), torch.zeros_like(low)
    surely, never = low >= tolerance, high < -tolerance
    reset = torch.full_like(low, dynamics.v_reset)
    # below: a constant, or from the lowest silent membrane to the reset one
    beneath = low + threshold < reset
    rise = ((reset - low - threshold) / (high - low).clamp(min=tolerance)).clamp(max=1)
    slope = torch.where(beneath, rise, zero)
    below = slope, torch.where(beneath, low + threshold - rise * low, reset)
    # above: the silent membrane itself, or the highest it can be
    silent = (-low > high) & (reset <= threshold - tolerance)
    highest = torch.maximum(torch.full_like(low, threshold + tolerance), reset)
    above = torch.where(silent, one, zero), torch.where(silent, one * threshold, highest)

    def exact(line: Line) -> Line:
        slope = torch.where(surely, zero, torch.where(never, one, line[0]))
        offset = torch.where(surely, reset, torch.where(never, one * threshold, line[1]))
        return slope, offset

    return Relaxed(exact(below), exact(above))
