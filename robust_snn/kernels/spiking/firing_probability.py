"""Firing probabilities of noisy membranes, the same bits on every backend.

Elementary functions differ between libraries in the last bit, and a spike depends on that bit. So
`F` is a table, made once in float64 and interpolated with operations that round alike everywhere.
The argument `u / (1 + |u|)` covers the whole line, heavy tails included; the kinks of the uniform
and the triangular distribution fall on knots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from robust_snn.kernels.spiking.spec import NoisyFiring

INTERVALS = 3072
FARTHEST = 2.0**60  # distance in widths beyond which F is 0 or 1; from an infinity comes no knot

# Cumulative distributions of the normalised surrogate families with the same names.
CUMULATIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda u: (1 + torch.erf(u)) / 2,
    "sigmoid": torch.sigmoid,
    "rectangle": lambda u: (u + 0.5).clamp(0, 1),
    "triangle": lambda u: 0.5 + u.clamp(-1, 1) - u.clamp(-1, 1) * u.clamp(-1, 1).abs() / 2,
    "atan": lambda u: 0.5 + torch.atan(math.pi / 2 * u) / math.pi,
}


@torch.inference_mode(False)
def _table(cumulative: Callable[[Tensor], Tensor]) -> Tensor:
    w = torch.linspace(-1, 1, INTERVALS + 1, dtype=torch.float64, device="cpu")
    return cumulative(w / (1 - w.abs())).float()


# Made here: one made at its first use would be what surrounds that, such as a tensor of a trace.
_TABLES = {family: _table(cumulative) for family, cumulative in CUMULATIVE.items()}


def firing_table(family: str) -> Tensor:
    """`F` at equal steps of `u / (1 + |u|)` from -1 to 1, float32 `[INTERVALS + 1]`."""
    return _TABLES[family]


@lru_cache
def table_on(family: str, device: torch.device) -> Tensor:
    """The same on a device, copied there once."""
    return firing_table(family).to(device)


def firing_probability(z: Tensor, noise: NoisyFiring) -> Tensor:
    """`F(z)`, to 6e-7, or 9e-7 for triangular noise; NaN at NaN, where no draw fires."""
    table = firing_table(noise.family).to(z)
    u = (noise.sharpness * z).clamp(-FARTHEST, FARTHEST)
    position = (u / (1 + u.abs()) + 1) * (INTERVALS // 2)
    knot = position.nan_to_num(0.0).long().clamp(0, INTERVALS - 1)
    below = table[knot]
    return below + (position - knot) * (table[knot + 1] - below)
