"""The images an attack may make, and random points among them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robust_snn.attacks.image_rng import ImageRng
from robust_snn.utils.errors import InputError, unknown

BALL_NORMS = ("Linf", "L2")  # whose steepest direction moves every pixel
_SHRINK = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_BISECTIONS = 40  # for the threshold of an L1 projection: beyond float32


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Values `[B]`, one per image, in a shape that broadcasts against `like` `[B, ...]`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def where_images(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of every image `a` where the condition `[B]` holds, else `b`, `[B, ...]`."""
    return torch.where(per_image(condition, a), a, b)


def l2_norms(delta: Tensor) -> Tensor:
    """Euclidean norm of every image, float64 `[B]`."""
    return delta.double().flatten(1).norm(dim=1)


def unit(delta: Tensor) -> Tensor:
    """Every image over its Euclidean norm, `[B, ...]`; zero where it is zero."""
    return delta / per_image(l2_norms(delta).clamp(min=1e-300), delta).to(delta)


class NormBall:
    """Images within `eps` of the clean ones and inside [0, 1].

    `project` never leaves it, not by a rounding error either: differences are taken in float64.

    Args:
        images: The clean images, float32 `[B, ...]`.
        eps: Radius.
        norm: `"Linf"`, `"L2"` or `"L1"`.

    Raises:
        InputError: If the norm is not known or the radius negative.
    """

    def __init__(self, images: Tensor, eps: float, norm: str) -> None:
        if norm not in (*BALL_NORMS, "L1"):
            raise unknown("norm", norm, (*BALL_NORMS, "L1"))
        if not eps >= 0:
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
        if self.norm == "L1":
            x = (self.images + self._nearest_in_l1(delta)).clamp(0, 1)
        else:
            scale = (self.eps / l2_norms(delta).clamp(min=1e-300)).clamp(max=1).to(x.dtype)
            x = (self.images + delta * per_image(scale, x)).clamp(0, 1)
        power = 1 if self.norm == "L1" else 2
        for shrink in _SHRINK:
            delta64 = (x.double() - self.images.double()).flatten(1)
            outside = delta64.norm(power, dim=1) > self.eps
            if not outside.any():
                break
            nearer = self.images + (x - self.images) * (1 - shrink)
            x = torch.where(per_image(outside, x), nearer, x)
        return x

    def _nearest_in_l1(self, delta: Tensor) -> Tensor:
        """The nearest changes of an L1 norm of at most `eps` that stay in [0, 1], `[B, ...]`.

        Every entry shrinks by the same amount, found by bisection, and is cut to [0, 1] (Croce and
        Hein, ICML 2021: projecting onto the ball alone and cutting afterwards wastes radius).
        """
        room = torch.where(delta > 0, 1 - self.images, self.images).flatten(1)
        size = delta.flatten(1).abs()
        low, high = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)
        fits = torch.minimum(size, room).double().sum(1, keepdim=True) <= self.eps
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            kept = torch.minimum((size - middle).clamp(min=0), room).double().sum(1, keepdim=True)
            low, high = (
                torch.where(kept > self.eps, middle, low),
                torch.where(kept > self.eps, high, middle),
            )
        shrunk = (size - torch.where(fits, 0.0, high)).clamp(min=0)
        return torch.minimum(shrunk, room).reshape(delta.shape) * delta.sign()

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length 1 that ascends fastest in Linf or L2, `[B, ...]`."""
        return gradient.sign() if self.norm == "Linf" else unit(gradient)

    def shorten(self, step: Tensor, length: float) -> Tensor:
        """Steps cut to a length in Linf or L2, `[B, ...]`."""
        if self.norm == "Linf":
            return step.clamp(-length, length)
        scale = (length / l2_norms(step).clamp(min=1e-300)).clamp(max=1)
        return step * per_image(scale, step).to(step.dtype)

    def random_inside(self, rng: ImageRng, start: int) -> Tensor:
        """Random points, uniform in a ball of Linf or L2 and then cut to [0, 1], `[B, ...]`."""
        if self.norm == "Linf":
            return self.project(self.images + self.eps * rng.uniform("start", start))
        radius = rng.uniform("radius", start).flatten(1)[:, 0].abs()
        radius = radius.double() ** (1 / self.images[0].numel())
        direction = self.steepest(rng.normal("start", start))
        return self.project(
            self.images + self.eps * per_image(radius.float(), direction) * direction
        )

    def random_surface(self, rng: ImageRng, start: int) -> Tensor:
        """Random points whose distance is `eps` before they are cut to [0, 1], as in AutoAttack."""
        if self.norm == "L1":
            return self.project(self.images + rng.normal("start", start))
        if self.norm == "Linf":
            direction = rng.uniform("start", start)
            direction /= per_image(direction.abs().flatten(1).amax(1), direction)
        else:
            direction = self.steepest(rng.normal("start", start))
        return self.project(self.images + self.eps * direction)


def _rounded_down(values: Tensor) -> Tensor:
    """The largest float32 numbers that do not exceed float64 ones."""
    rounded = values.float()
    below = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
    return torch.where(rounded.double() > values, below, rounded)
