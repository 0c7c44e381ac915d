"""The threat model: what an adversarial image may be, and the check that every one gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.threat_radius import NORMS, checked_radius
from robust_snn.utils.errors import unknown

TOGETHER = 8  # images whose distances are taken at once, in float64
NORM_TOLERANCE = 1e-6  # what rounding to float32 may add to a norm
ENTRY_TOLERANCE = 2.0**-24  # and to the L1 norm for every entry


class ConstraintViolation(RuntimeError):
    """An attack returned an image that the threat model does not allow."""


@dataclass(frozen=True)
class Threat:
    """Perturbations of at most `eps` in a norm, inside [0, 1]; L0 counts the changed entries."""

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        object.__setattr__(self, "eps", checked_radius(self.eps, self.norm))

    def check(self, adversarial: Tensor, images: Tensor, attack: str) -> None:
        """Checks every adversarial image.

        Args:
            adversarial: What the attack returned, `[B, C, H, W]`.
            images: The clean images, `[B, C, H, W]`.
            attack: What messages call it.

        Raises:
            ConstraintViolation: If one is not finite, leaves [0, 1] or lies farther than `eps`.
        """
        if adversarial.shape != images.shape:
            raise ConstraintViolation(
                f"{attack} returned shape {tuple(adversarial.shape)} for {tuple(images.shape)}"
            )
        if not adversarial.isfinite().all():
            raise ConstraintViolation(f"{attack} returned an image that is not finite")
        low, high = float(adversarial.min()), float(adversarial.max())
        if low < 0 or high > 1:
            raise ConstraintViolation(f"{attack} left [0, 1]: pixels from {low:g} to {high:g}")
        distance = float(self.distance(adversarial, images).max())
        rounding = ENTRY_TOLERANCE * images[:1].numel() if self.norm == "L1" else 0.0
        if distance > self.eps + NORM_TOLERANCE + rounding:
            raise ConstraintViolation(
                f"{attack} perturbed an image by {distance:.8g} in {self.norm}, "
                f"more than eps = {self.eps:.8g}"
            )

    def distance(self, adversarial: Tensor, images: Tensor) -> Tensor:
        """Norm of the perturbation of every image, float64 `[B]`."""
        parts = zip(adversarial.split(TOGETHER), images.split(TOGETHER), strict=True)
        return torch.cat([self._norms((a.double() - b.double()).flatten(1)) for a, b in parts])

    def _norms(self, delta: Tensor) -> Tensor:
        if self.norm == "L0":
            return (delta != 0).sum(1).double()
        return delta.norm(p={"Linf": math.inf, "L2": 2, "L1": 1}[self.norm], dim=1)
