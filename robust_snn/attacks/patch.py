"""A square patch anywhere on an image, whose place and pixels are both optimised."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import isqrt

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import Attack
from robust_snn.attacks.norm_ball import per_image, where_images
from robust_snn.attacks.problem import (
    AttackInputs,
    fresh_answers,
    margin_gradient,
)
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole

TRIED = 200  # places, at most
FIRST = 0.5  # length of a first step; the range of pixels is 1


@dataclass(frozen=True, kw_only=True)
class Patch(Attack):
    """Replaces a square of every image (after Brown et al., 2017, arXiv 1712.09665).

    `eps` counts changed entries, as all of L0: the side is the largest whose square, times the
    channels, fits. All places, or a grid of some 200, are tried with every pixel inside at the
    opposite end of its range, which needs no gradient: where gradients are large, a patch often
    does little. The pixels of the hardest ones climb the margin with steps along its sign. The
    hardest place by fresh draws is returned.

    Attributes:
        steps: Gradients per place.
        places: Places whose pixels are optimised.
        eot_loss: Draws that a gradient averages, of a noisy victim.
    """

    name = "patch"
    norms = ("L0",)
    steps: int = 20
    places: int = 8
    eot_loss: int = 4

    def __post_init__(self) -> None:
        check_fields(self)
        for option in ("steps", "places", "eot_loss"):
            whole(getattr(self, option), option, 1)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        if images.ndim != 4:
            raise InputError(f"patch needs images [B, C, H, W], got {tuple(images.shape)}")
        if eps < images.shape[1]:
            raise InputError(
                f"a patch of one pixel changes {images.shape[1]} entries, got eps={eps:g}; "
                "usual is 75, which is 5x5 pixels in color"
            )

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        victim, images, labels, ids = inputs[:4]
        best, wrong = images.clone(), torch.zeros_like(labels, dtype=torch.bool)
        side = min(isqrt(int(inputs.eps) // images.shape[1]), *images.shape[2:])
        if not len(images) or not side:
            return best, wrong
        hardest = torch.full((len(images),), -torch.inf, device=images.device)
        for place, mask in enumerate(self._hardest_places(inputs, side)):
            x = images
            for step in range(self.steps):
                purpose = "patch", place, step
                ascent = margin_gradient(victim, x, labels, self.eot_loss, ids, purpose).sign()
                x = (x + FIRST * (1 - step / self.steps) * mask * ascent).clamp(0, 1)
            gap, errors = fresh_answers(inputs, x)
            found = errors + 1e-3 * gap.tanh()
            better = found > hardest
            best, hardest = where_images(better, x, best), found.where(better, hardest)
            wrong = torch.where(better, errors > 0.5, wrong)
        return best, wrong

    @torch.no_grad()
    def _hardest_places(self, inputs: AttackInputs, side: int) -> list[Tensor]:
        """Squares `[B, 1, H, W]` of every image, the hardest first."""
        victim, images, labels, ids = inputs[:4]
        draws, opposite = self.eot_loss if victim.stochastic else 1, 1 - images.round()
        corners, margins = _grid(images.shape[2] - side + 1, images.shape[3] - side + 1), []
        for top, left in corners:
            x = images.clone()
            inside = (..., slice(top, top + side), slice(left, left + side))
            x[inside] = opposite[inside]
            drawn = victim.samples(x, ids, range(draws), "places")
            margins.append(torch.stack([margin(logits, labels) for logits in drawn]).mean(0))
        order = torch.stack(margins, 1).argsort(dim=1, descending=True, stable=True)
        at = torch.tensor(corners, device=images.device)[order[:, : self.places]]
        y = torch.arange(images.shape[2], device=images.device).view(1, 1, -1, 1)
        x = torch.arange(images.shape[3], device=images.device).view(1, 1, 1, -1)
        masks = []
        for place in at.unbind(1):
            above, before = (per_image(place[:, axis], images) for axis in (0, 1))
            rows, columns = (y >= above) & (y < above + side), (x >= before) & (x < before + side)
            masks.append((rows & columns).float())
        return masks


def _grid(rows: int, columns: int) -> list[tuple[int, int]]:
    """All places, or some `TRIED` at equal distances, with the last row and column."""
    stride = 1
    while len(_steps(rows, stride)) * len(_steps(columns, stride)) > TRIED:
        stride += 1
    return list(product(_steps(rows, stride), _steps(columns, stride)))


def _steps(count: int, stride: int) -> list[int]:
    return sorted({*range(0, count, stride), count - 1})
