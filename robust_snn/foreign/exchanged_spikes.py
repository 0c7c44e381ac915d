"""Spikes with the values that a network computed, in place of those, and what they follow from."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.staircase import Staircase, read_staircase


class Kind(Enum):
    """How the spikes of a comparison follow from its membrane."""

    STEP = "a step at zero"
    ROUNDING = "steps at whole numbers, others than zero too"
    CHANCE = "by chance, at zero in half of all draws"


class Fired(torch.autograd.Function):
    """Spikes that a network has computed, as a function of its membrane above the threshold."""

    @staticmethod
    def forward(
        ctx: Any, membrane: Tensor, spikes: Tensor, kind: Kind | Staircase, line: Any
    ) -> Tensor:
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None, None, None]:
        return None, None, None, None


class Rounded(torch.autograd.Function):
    """Spikes that have a gradient, of a membrane that is not known."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor) -> Tensor:
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


def rounded(out: Tensor) -> Tensor:
    """Spikes with the same values, of a membrane that is not known."""
    spikes: Tensor = Rounded.apply(out)
    return spikes


def read_spikes(membrane: Tensor, spikes: Tensor, kind: Kind | Staircase) -> Staircase | None:
    """The staircase that the spikes of a comparison are of its membrane; None if they are none.

    Args:
        membrane: The membrane, above the threshold at which spikes of two values jump.
        spikes: The spikes, of the same shape.
        kind: How they follow from it; or the staircase, where it is known.
    """
    if isinstance(kind, Staircase):
        return kind if kind.agrees(membrane, spikes) else None
    whole, chance = kind is Kind.ROUNDING, kind is Kind.CHANCE
    return read_staircase(membrane, spikes, whole=whole, chance=chance)
