"""The margin along a gradient: what the gradient says of it, and what the network does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.norm_ball import unit
from robust_snn.attacks.problem import margin_gradient
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

DRAWS = 8  # of the gradients and margins of a noisy victim
POINTS = 9  # from -eps to eps


@dataclass(frozen=True)
class MarginCurve:
    """Mean margin of some images, best other logit minus that of the label, around them.

    Attributes:
        distances: Signed distances from the images, in the norm of the threat, `[P]`.
        along: Mean margin that far along the gradient's step, `[P]`.
        promised: The same as the gradient says: a line whose slope is its own, `[P]`.
        random: The same along one random direction per image, `[P]`.
    """

    distances: tuple[float, ...]
    along: tuple[float, ...]
    promised: tuple[float, ...]
    random: tuple[float, ...]


def margin_curve(
    victim: Victim, images: Tensor, labels: Tensor, *, eps: float, norm: str, seed: int
) -> MarginCurve:
    """The expected margin along the gradient mode's own step, with what it promises.

    Args:
        victim: The victim, with the gradient mode to be judged.
        images: `[B, C, H, W]` in [0, 1]; points around them may lie outside.
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of the noise and of the random directions.
    """
    distances = torch.linspace(-eps, eps, POINTS).tolist()
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        gradient = margin_gradient(variant, x, y, DRAWS)
        directions = (gradient, ImageRng(seed, ids, x).uniform("margin curve"))
        ways = [way.sign() if norm == "Linf" else unit(way) for way in directions]

        def mean_margin(points: Tensor) -> float:
            draws = DRAWS if variant.stochastic else 1
            logits = fresh_logits(variant, points, ids, draws, "margin curve")
            return float(torch.stack([margin(z, y) for z in logits]).mean())

        along, random = ([mean_margin(x + d * way) for d in distances] for way in ways)
        slope = float((gradient * ways[0]).flatten(1).sum(1).mean())
    middle = along[POINTS // 2]
    promised = [middle + slope * d for d in distances]
    return MarginCurve(*map(tuple, (distances, along, promised, random)))
