"""The images an attack may make, and random points among them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robust_snn.kernels import derive_seed
from robust_snn.utils.errors import InputError, unknown

NORMS = ("Linf", "L2")
_SHRINK = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def wide(values: Tensor, like: Tensor) -> Tensor:
    """Values `[B]`, one per image, in a shape that broadcasts against `like` `[B, ...]`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def lengths(delta: Tensor) -> Tensor:
    """Euclidean norm of every image, float64 `[B]`."""
    return delta.double().flatten(1).norm(dim=1)


class Ball:
    """Images within `eps` of the clean ones and inside [0, 1].

    `project` never leaves it, not by a rounding error either: differences are taken in float64.

    Args:
        images: The clean images, float32 `[B, ...]`.
        eps: Radius.
        norm: `"Linf"` or `"L2"`.

    Raises:
        InputError: If the norm is not known or the radius negative.
    """

    def __init__(self, images: Tensor, eps: float, norm: str) -> None:
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        if not (math.isfinite(eps) and eps >= 0):
            raise InputError(f"eps must be a number of at least 0, got {eps}")
        self.images, self.eps, self.norm = images, eps, norm
        if norm == "Linf":
            self.low = -_rounded_down(-(images.double() - eps).clamp(min=0))
            self.high = _rounded_down((images.double() + eps).clamp(max=1))

    def project(self, x: Tensor) -> Tensor:
        """The nearest images of the ball, up to rounding, `[B, ...]`."""
        if self.norm == "Linf":
            return torch.clamp(x, self.low, self.high)
        delta = x - self.images
        scale = (self.eps / lengths(delta).clamp(min=1e-300)).clamp(max=1).to(x.dtype)
        x = (self.images + delta * wide(scale, x)).clamp(0, 1)
        for shrink in _SHRINK:
            outside = lengths(x.double() - self.images.double()) > self.eps
            if not outside.any():
                break
            nearer = self.images + (x - self.images) * (1 - shrink)
            x = torch.where(wide(outside, x), nearer, x)
        return x

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length 1 that ascends fastest in this norm, `[B, ...]`."""
        if self.norm == "Linf":
            return gradient.sign()
        return gradient / wide(lengths(gradient).clamp(min=1e-300), gradient).to(gradient.dtype)

    def limit(self, step: Tensor, length: float) -> Tensor:
        """Steps cut to a length in this norm, `[B, ...]`."""
        if self.norm == "Linf":
            return step.clamp(-length, length)
        scale = (length / lengths(step).clamp(min=1e-300)).clamp(max=1)
        return step * wide(scale, step).to(step.dtype)

    def inside(self, dice: Dice, restart: int) -> Tensor:
        """Random points, uniform in the ball before they are cut to [0, 1], `[B, ...]`."""
        if self.norm == "Linf":
            return self.project(self.images + self.eps * dice.uniform("start", restart))
        radius = dice.uniform("radius", restart).flatten(1)[:, 0].abs()
        radius = radius.double() ** (1 / self.images[0].numel())
        direction = self.steepest(dice.normal("start", restart))
        return self.project(self.images + self.eps * wide(radius.float(), direction) * direction)

    def surface(self, dice: Dice, restart: int) -> Tensor:
        """Random points whose distance is `eps` before they are cut to [0, 1], as in AutoAttack."""
        if self.norm == "Linf":
            direction = dice.uniform("start", restart)
            direction /= wide(direction.abs().flatten(1).amax(1), direction)
        else:
            direction = self.steepest(dice.normal("start", restart))
        return self.project(self.images + self.eps * direction)


class Dice:
    """Random numbers for images: those of one image depend on the seed, its id and their purpose.

    So an image gets the same ones in any batch.

    Args:
        seed: Seed of the attack.
        ids: Index of each image in the attacked set, `[B]`.
        like: Images whose shape and device the numbers take, `[B, ...]`.
    """

    def __init__(self, seed: int, ids: Tensor, like: Tensor) -> None:
        self.seed, self.ids = seed, ids.tolist()
        self.shape, self.device = like.shape[1:], like.device

    def uniform(self, *purpose: str | int) -> Tensor:
        """Numbers uniform in [-1, 1), float32 `[B, ...]`."""
        return self._throw(torch.rand, purpose) * 2 - 1

    def normal(self, *purpose: str | int) -> Tensor:
        """Standard normal numbers, float32 `[B, ...]`."""
        return self._throw(torch.randn, purpose)

    def _throw(self, distribution: Callable[..., Tensor], purpose: tuple[str | int, ...]) -> Tensor:
        numbers = torch.empty((len(self.ids), *self.shape))
        for row, image in enumerate(self.ids):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, *purpose, image))
            numbers[row] = distribution(self.shape, generator=generator)
        return numbers.to(self.device)


def _rounded_down(values: Tensor) -> Tensor:
    """The largest float32 numbers that do not exceed float64 ones."""
    rounded = values.float()
    below = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
    return torch.where(rounded.double() > values, below, rounded)
