"""Penalties that keep membranes out of reach of the threshold, and so of a surrogate's window.

Where they succeed, a surrogate of fixed width has no gradient left to follow: an attack with the
training's own surrogate then says nothing, and `adaptive` and the diagnostics must.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.metrics import Activity


def near_threshold(activity: Activity, margin: float) -> Tensor:
    """Threshold guarding (TGO: Wang et al., ICLR 2026, arXiv 2602.20548), summed over layers.

        sum_layers mean_(t, images, neurons) max(0, margin - |v - threshold|)

    The paper pairs it with noisy neurons (`*_nlif`). It states neither the margin nor the noise.

    Args:
        activity: What a pass of the network recorded.
        margin: Distance from the threshold that membranes are kept at.
    """
    layers = activity.layers.values()
    return sum_of([(margin - layer.distance.abs()).clamp(min=0).mean() for layer in layers])


def mass_in_window(activity: Activity, margin: float) -> Tensor:
    """How much of each layer's membrane distribution is in the surrogate's window (MPD-SGR).

        sum_layers P(|v - threshold| < margin),   v normal with the layer's mean and deviation

    MPD-SGR (Jiang et al., AAAI 2026, arXiv 2511.12199) lowers the share of membranes in the range
    where a surrogate has a gradient. No code was released, and of its text we had the abstract and
    summaries, which give this formula.

    Args:
        activity: What a pass of the network recorded.
        margin: Half the width of the window; 1 is that of the triangle with gamma 1.
    """
    return sum_of([_normal_mass(layer.distance, margin) for layer in activity.layers.values()])


def _normal_mass(distance: Tensor, margin: float) -> Tensor:
    scale = math.sqrt(2) * (distance.std(correction=0) + 1e-6)
    mean = distance.mean()
    upper, lower = (torch.erf((edge - mean) / scale) for edge in (margin, -margin))
    return (upper - lower) / 2


def sum_of(terms: list[Tensor]) -> Tensor:
    """The sum of some numbers."""
    return torch.stack(terms).sum()


@dataclass(frozen=True)
class Guard:
    """A penalty on membranes.

    Attributes:
        penalty: From what a pass recorded and the margin.
        grows: Whether its weight grows over the epochs, along half a cosine.
    """

    penalty: Callable[[Activity, float], Tensor]
    grows: bool = False


# name -> penalty; a new one is one row
GUARDS = {"tgo": Guard(near_threshold, grows=True), "mpd_sgr": Guard(mass_in_window)}
