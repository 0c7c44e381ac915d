"""What spike functions of somebody's network do in the backward pass, in the place of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.interception import Exchange
from robust_snn.foreign.recurrence import Recurrence
from robust_snn.foreign.staircase import Staircase
from robust_snn.kernels import RateSlope, Recursion
from robust_snn.kernels.blocks import blocks, blockwise, blockwise_product
from robust_snn.kernels.spiking.one_step import in_one_pass, running_drive, slope_product
from robust_snn.kernels.spiking.reference import slope_at
from robust_snn.kernels.spiking.surrogate_shapes import derivative


class Surrogated(Exchange):
    """The step function with a surrogate derivative.

    Args:
        staircase: The function.
        rule: Says which derivative.
        kept: The membrane; None where the context of the call has saved it.
    """

    def __init__(self, staircase: Staircase, rule: Recursion, kept: Tensor | None) -> None:
        self.argument, self.threshold = staircase.argument, staircase.threshold
        self.staircase = staircase
        self.rule = rule
        self.kept = kept

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        membrane = ctx.saved_tensors[0] if self.kept is None else self.kept
        surrogate = self.rule.surrogate
        if surrogate.scale == 0:  # straight through the staircase, not through each of its steps
            slope = self.staircase.slope
            return upstream * surrogate.floor * (slope or nearest(self.staircase, membrane)[1])
        first, *others = (
            slope_product(upstream, membrane, edge, jump, surrogate, surrogate.sharpness)
            for edge, jump in zip(self.staircase.edges, self.staircase.jumps, strict=True)
        )
        return sum(others, first)


class Adapted(Exchange):
    """The surrogate of a rule that measures the membranes of all steps first.

    Args:
        staircase: The function.
        kept: The membrane; None where the context of the call has saved it.
    """

    def __init__(self, staircase: Staircase, kept: Tensor | None) -> None:
        self.argument, self.threshold = staircase.argument, staircase.threshold
        self.staircase = staircase
        self.kept = kept
        self.rule: Recursion | None = None
        self.sharpness: Tensor | None = None

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        assert self.rule is not None and self.sharpness is not None
        membrane = ctx.saved_tensors[0] if self.kept is None else self.kept
        if len(self.staircase.edges) > 1:
            return blockwise_product(self._slope, upstream, membrane, self.sharpness)
        edge, jump = self.staircase.edges[0], self.staircase.jumps[0]
        if self.staircase.signs[0] < 0:  # a surrogate may differ below and above
            membrane, edge = -membrane, -edge
        return slope_product(upstream, membrane, edge, jump, self.rule.surrogate, self.sharpness)

    def _slope(self, membrane: Tensor, sharpness: Tensor) -> Tensor:
        assert self.rule is not None
        z, jump = nearest(self.staircase, membrane)
        z = z * membrane.new_tensor(self.staircase.signs)[closest_edges(self.staircase, membrane)]
        return derivative(z, self.rule.surrogate, sharpness) * jump


class Sloped(Exchange):
    """A slope per neuron, known once the pass has ended."""

    def __init__(self, argument: int) -> None:
        self.argument = argument
        self.slope: Tensor | None = None

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        assert self.slope is not None
        return (upstream * self.slope).to(upstream.dtype)


class Stopped(Exchange):
    """No gradient: `average_over_time` goes on from here."""

    def __init__(self, argument: int) -> None:
        self.argument = argument

    def backward(self, ctx: Any, upstream: Tensor) -> None:
        return None


class RateSoFar:
    """What the slope of the rate of a neuron depends on, from one step to the next.

    Args:
        rule: The slope.
        recurrence: The recursion of the membrane.
        staircase: The function by which it fires.
    """

    def __init__(self, rule: RateSlope, recurrence: Recurrence, staircase: Staircase) -> None:
        self.rule = rule
        self.recurrence = recurrence
        self.staircase = staircase
        self._steps, self._dtype = 0, torch.float32
        self._fired: Tensor | None = None
        self._drive: Tensor | None = None
        self._carried: Tensor | None = None

    @torch.no_grad()
    def add(self, membrane: Tensor, spikes: Tensor) -> None:
        """Takes in a step."""
        self._steps, self._dtype = self._steps + 1, membrane.dtype
        if self.rule.edges is None:
            low, jump = self.staircase.levels[0], self.staircase.jumps[0]
            fired = spikes > low if jump > 0 else spikes < low
            self._fired = fired if self._fired is None else self._fired.logical_or_(fired)
            return
        if self._drive is None or self._carried is None:
            self._drive = torch.zeros_like(membrane)
            self._carried = torch.full_like(membrane, -self.recurrence.threshold)
        steps = membrane, spikes, self._drive, self._carried
        if in_one_pass(*steps):
            fires = self.staircase.edges[0], self.staircase.levels[0], self.staircase.jumps[0]
            decay, drop, clear, threshold = self.recurrence[:4]
            running_drive(*steps, *fires, decay, clear, drop, (1 - decay) * threshold)
            return
        for at, fired, drive, carried in blocks(*steps):
            z = above(at, self.staircase.edges[0])
            drive += z - carried
            carried.copy_(self.recurrence.carried(z, self._zero_or_one(fired)))

    def _zero_or_one(self, spikes: Tensor) -> Tensor:
        low, jump = self.staircase.levels[0], self.staircase.jumps[0]
        return spikes if (low, jump) == (0, 1) else (spikes - low) / jump

    @torch.no_grad()
    def slope(self) -> Tensor:
        """Slope of a spike by the drive `[B, ...]`, once all steps are known."""
        jump = self.staircase.jumps[0]
        if self._fired is not None:
            return jump * (self.rule.slope * self._fired.to(self._dtype))
        assert self._drive is not None
        return blockwise(lambda drive: jump * slope_at(self.rule, drive / self._steps), self._drive)


def nearest(staircase: Staircase, membrane: Tensor) -> tuple[Tensor, Tensor | float]:
    """Distance from the nearest edge, and the jump there."""
    if len(staircase.edges) == 1:
        return above(membrane, staircase.edges[0]), staircase.jumps[0]
    edges, jumps = (membrane.new_tensor(v) for v in (staircase.edges, staircase.jumps))
    closest = closest_edges(staircase, membrane)
    return membrane - edges[closest], jumps[closest]


def closest_edges(staircase: Staircase, membrane: Tensor) -> Tensor:
    """Numbers of the edges that membranes are nearest to."""
    return (membrane.unsqueeze(-1) - membrane.new_tensor(staircase.edges)).abs().argmin(-1)


def above(membrane: Tensor, edge: float) -> Tensor:
    """How far a membrane is above an edge."""
    return membrane if edge == 0 else membrane - edge
