"""Unit shapes of the surrogate derivatives: every catalogue entry is a scaled and sharpened `k`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robust_snn.kernels.spiking.spec import Surrogate


def _sigmoid(u: Tensor) -> Tensor:
    firing = torch.sigmoid(u)
    return firing * (1 - firing)


# Each integrates to one over the real line.
FAMILIES: dict[str, Callable[[Tensor], Tensor]] = {
    "triangle": lambda u: (1 - u.abs()).clamp(min=0),
    "rectangle": lambda u: (u.abs() < 0.5).to(u.dtype),
    "atan": lambda u: 0.5 / (1 + (math.pi / 2 * u) ** 2),
    "sigmoid": _sigmoid,
}


def derivative(z: Tensor, surrogate: Surrogate) -> Tensor:
    """The surrogate derivative at `z = v - threshold`."""
    peak = surrogate.scale * surrogate.sharpness
    return peak * FAMILIES[surrogate.family](surrogate.sharpness * z)
