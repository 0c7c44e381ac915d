"""Unit shapes of the surrogate derivatives: every catalogue entry is a scaled and sharpened `k`.

For a shape of integral one, the integral over `[-x, x]` is the share of the derivative that a
neuron at distance `x` has already lost, its degree of vanishing: the theory behind ASSG.

Operations end in `_` wherever a second derivative does not need what they overwrite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.kernels.spiking.rules import Surrogate


class Share(NamedTuple):
    """How much of a unit shape lies near the threshold.

    Attributes:
        within: Integral of the shape over `[-x, x]` for distances `x >= 0`.
        distance: The inverse: the distance within which a share in (0, 1) lies.
    """

    within: Callable[[Tensor], Tensor]
    distance: Callable[[float], float]


class UnitShape(NamedTuple):
    """A unit shape `k`; its code is the row of the same name in `codes.Shape`.

    Attributes:
        k: The shape, a function of the sharpened distance.
        share: How much of it lies near the threshold; None if that is of no use.
    """

    k: Callable[[Tensor], Tensor]
    share: Share | None = None


def _sigmoid(u: Tensor) -> Tensor:
    firing = torch.sigmoid(u)
    return firing * (1 - firing)


def _gaussian(u: Tensor) -> Tensor:
    return u.square().neg_().exp_() / math.sqrt(math.pi)


UNIT_SHAPES: dict[str, UnitShape] = {
    "triangle": UnitShape(
        lambda u: (1 - u.abs()).clamp(min=0),
        Share(lambda x: 1 - (1 - x.clamp(max=1)) ** 2, lambda share: 1 - math.sqrt(1 - share)),
    ),
    "rectangle": UnitShape(
        lambda u: (u.abs() < 0.5).to(u.dtype),
        Share(lambda x: (2 * x).clamp(max=1), lambda share: share / 2),
    ),
    "atan": UnitShape(
        lambda u: 0.5 / ((math.pi / 2 * u) ** 2).add_(1),
        Share(
            lambda x: 2 / math.pi * torch.atan(math.pi / 2 * x),
            lambda share: 2 / math.pi * math.tan(math.pi * share / 2),
        ),
    ),
    "sigmoid": UnitShape(
        _sigmoid,
        Share(lambda x: torch.tanh(x / 2), lambda share: 2 * math.atanh(share)),
    ),
    "gaussian": UnitShape(
        _gaussian,
        Share(torch.erf, lambda share: NormalDist().inv_cdf((1 + share) / 2) / math.sqrt(2)),
    ),
    "softsign": UnitShape(
        lambda u: 0.5 / (1 + u.abs()) ** 2,
        Share(lambda x: x / (1 + x), lambda share: share / (1 - share)),
    ),
    "exponential": UnitShape(
        lambda u: 0.5 * torch.exp(-u.abs()),
        Share(lambda x: 1 - torch.exp(-x), lambda share: -math.log(1 - share)),
    ),
    "shifted": UnitShape(lambda u: _gaussian((u - 0.5).div_(math.sqrt(2))).div_(math.sqrt(2))),
    # These two have no finite integral.
    "logarithm": UnitShape(lambda u: 1 / (1 + u.abs())),
    "step": UnitShape(lambda u: (u >= 0).to(u.dtype)),
}

SHARES = {name: shape.share for name, shape in UNIT_SHAPES.items() if shape.share is not None}


def derivative(z: Tensor, surrogate: Surrogate, sharpness: Tensor | float) -> Tensor:
    """The surrogate derivative at `z = v - threshold`, of the given sharpness."""
    height = sharpness if surrogate.scale == 1.0 else surrogate.scale * sharpness
    # a factor of one would be a pass over memory
    slope = UNIT_SHAPES[surrogate.family].k(z if _is_one(sharpness) else sharpness * z)
    if not _is_one(height):
        fixed = not isinstance(height, Tensor) or not torch.is_grad_enabled()
        slope = slope.mul_(height) if fixed else height * slope
    return slope + surrogate.floor if surrogate.floor else slope


def _is_one(factor: Tensor | float) -> bool:
    return not isinstance(factor, Tensor) and factor == 1.0
