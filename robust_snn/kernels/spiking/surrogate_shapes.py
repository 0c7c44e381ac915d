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


def _gaussian(u: Tensor) -> Tensor:
    return torch.exp(-u.square()) / math.sqrt(math.pi)


# Compiled backends know a family by its position. Those before "logarithm" integrate to one.
FAMILIES: dict[str, Callable[[Tensor], Tensor]] = {
    "triangle": lambda u: (1 - u.abs()).clamp(min=0),
    "rectangle": lambda u: (u.abs() < 0.5).to(u.dtype),
    "atan": lambda u: 0.5 / (1 + (math.pi / 2 * u) ** 2),
    "sigmoid": _sigmoid,
    "gaussian": _gaussian,
    "softsign": lambda u: 0.5 / (1 + u.abs()) ** 2,
    "exponential": lambda u: 0.5 * torch.exp(-u.abs()),
    "shifted": lambda u: _gaussian((u - 0.5) / math.sqrt(2)) / math.sqrt(2),
    "logarithm": lambda u: 1 / (1 + u.abs()),
    "step": lambda u: (u >= 0).to(u.dtype),
}


def derivative(z: Tensor, surrogate: Surrogate, sharpness: Tensor | float) -> Tensor:
    """The surrogate derivative at `z = v - threshold`, of the given sharpness."""
    shape = FAMILIES[surrogate.family](sharpness * z)
    return surrogate.scale * sharpness * shape + surrogate.floor
