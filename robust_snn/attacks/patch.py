"""A square patch anywhere on an image, whose place and pixels are both optimised."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import Attack, check_positive
from robust_snn.attacks.norm_ball import per_image, where_images
from robust_snn.attacks.problem import AttackInputs, margin_gradient
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError
from robust_snn.victim_scoring import fresh_logits


@dataclass(frozen=True, kw_only=True)
class Patch(Attack):
    """Replaces a square of every image (after Brown et al., 2017, arXiv 1712.09665).

    `eps` counts changed entries, as all of L0: the side is the largest whose square, times the
    channels, fits. Places are tried in the order of the gradient inside them; the pixels of each
    climb the margin with steps along its sign. The hardest place by fresh draws is returned.

    Attributes:
        steps: Gradients per place.
        places: Places tried.
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
            check_positive(option, getattr(self, option))

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
        draws = 10 if victim.stochastic else 1
        hardest = torch.full((len(images),), -torch.inf, device=images.device)
        gradient = margin_gradient(victim, images, labels, self.eot_loss)
        for mask in self._masks(gradient, side):
            x = images
            for step in range(self.steps):
                ascent = margin_gradient(victim, x, labels, self.eot_loss).sign()
                x = (x + mask * ascent * (1 - step / self.steps)).clamp(0, 1)
            logits = fresh_logits(victim, x, ids, draws, "choose")
            errors = torch.stack([(z.argmax(1) != labels).float() for z in logits]).mean(0)
            found = errors + 1e-3 * torch.stack([margin(z, labels) for z in logits]).mean(0).tanh()
            better = found > hardest
            best, hardest = where_images(better, x, best), found.where(better, hardest)
            wrong = torch.where(better, errors > 0.5, wrong)
        return best, wrong

    def _masks(self, gradient: Tensor, side: int) -> list[Tensor]:
        """Squares of the largest gradients, `[B, 1, H, W]` each, the best place first."""
        size = gradient.abs().sum(1, keepdim=True)
        inside = F.avg_pool2d(size, side, stride=1)
        width = inside.shape[-1]
        order = inside.flatten(1).argsort(1, descending=True)[:, : self.places]
        y = torch.arange(size.shape[2], device=size.device).view(1, 1, -1, 1)
        x = torch.arange(size.shape[3], device=size.device).view(1, 1, 1, -1)
        masks = []
        for place in order.T:
            top, left = per_image(place // width, size), per_image(place % width, size)
            square = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
            masks.append(square.float())
        return masks
