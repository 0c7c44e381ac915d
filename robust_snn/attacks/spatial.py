"""Images that are turned, shifted or bent: no pixel is made up, and none stays where it was."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import cos, radians, sin

import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn.attacks.base import Attack
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.norm_ball import where_images
from robust_snn.attacks.problem import AttackInputs, Problem, fresh_answers
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole


@dataclass(frozen=True, kw_only=True)
class Spatial(Attack):
    """The worst rotation and translation of a grid (Engstrom et al., ICML 2019).

    Every point of the grid is tried, so the attack needs no gradient and cannot fail for want of
    one. The threat bounds itself and no pixel, `eps` is 1. What comes in from outside is black.

    Attributes:
        degrees: Largest rotation, either way.
        shift: Largest translation along either side, as a share of it.
        angles: Angles of the grid.
        places: Translations of the grid, along either side.
    """

    name = "spatial"
    norms = ("Linf",)
    degrees: float = 30.0
    shift: float = 0.1
    angles: int = 31
    places: int = 5

    def __post_init__(self) -> None:
        check_fields(self)
        whole(self.angles, "angles", 1)
        whole(self.places, "places", 1)
        if not (0 <= self.degrees <= 180 and 0 <= self.shift <= 1):
            raise InputError(
                "spatial turns by 0 to 180 degrees and shifts by a share in [0, 1], "
                f"got degrees={self.degrees}, shift={self.shift}"
            )

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        _check_images(self.name, images, eps)

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        images = inputs.images
        best, worst = images, torch.full((len(images),), -torch.inf, device=images.device)
        wrong = torch.zeros_like(worst)
        for point in [None, *self.grid()]:
            x = images if point is None else transformed(images, *point)
            gap, errors = fresh_answers(inputs, x, inputs.victim.eot, "spatial")
            harder = gap > worst
            best, worst = where_images(harder, x, best), gap.where(harder, worst)
            wrong = errors.where(harder, wrong)
        return best, wrong > 0.5

    def grid(self) -> list[tuple[float, float, float]]:
        """Degrees, and shifts down and to the right as shares, of every point."""
        turns, shifts = _spread(self.degrees, self.angles), _spread(self.shift, self.places)
        return list(product(turns, shifts, shifts))


@dataclass(frozen=True, kw_only=True)
class Flow(IterativeAttack):
    """Every pixel is read from a place near its own (after Xiao et al., ICLR 2018).

    Gradient ascent on the field of displacements, with steps along the sign. The published attack
    pays for fields that are not smooth, in place of a bound; here `pixels` bounds them, and `eps`
    is 1. What is read from outside the image is black.

    Attributes:
        steps: Gradients per start.
        pixels: Largest displacement along either side.
    """

    name = "flow"
    norms = ("Linf",)
    steps: int = 50
    pixels: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.pixels < float("inf"):
            raise InputError(f"pixels of flow must be a positive number, got {self.pixels}")

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        _check_images(self.name, images, eps)

    def run(self, problem: Problem) -> None:
        clean, most = problem.images, self.pixels
        like = clean[:, :1].expand(-1, 2, -1, -1)
        # displacements of zero lie on an edge between two slopes, so no start is exactly there
        field = torch.stack([problem.rng.uniform("flow", problem.start, i)[:, 0] for i in (0, 1)])
        field = field.movedim(0, 1) * most / (1 if problem.start else 10)
        for step in range(self.steps):
            gradient = problem.loss_gradient(_bent(clean, field)).gradient
            with torch.enable_grad():
                leaf = field.detach().requires_grad_()
                (ascent,) = torch.autograd.grad((_bent(clean, leaf) * gradient).sum(), leaf)
            length = most * max(1 - step / self.steps, 0.05)
            field = (field + length * ascent.sign()).clamp(-most, most)
        problem.record(_bent(clean, field.view_as(like)))


def transformed(images: Tensor, degrees: float, down: float, right: float) -> Tensor:
    """Images `[B, C, H, W]` turned about their middle, then shifted by shares of their sides."""
    height, width = images.shape[2:]
    turn, ratio = radians(degrees), height / width
    back = torch.tensor(
        [[cos(turn), -sin(turn) * ratio, 0.0], [sin(turn) / ratio, cos(turn), 0.0]],
        device=images.device,
    )
    back[:, 2] = -back[:, :2] @ torch.tensor([2.0 * right, 2.0 * down], device=images.device)
    grid = F.affine_grid(back.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return _read(images, grid)


def _bent(images: Tensor, field: Tensor) -> Tensor:
    """Images `[B, C, H, W]` whose pixels are read at displacements `[B, 2, H, W]`, in pixels."""
    height, width = images.shape[2:]
    same = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(same, list(images.shape), align_corners=False)
    size = torch.tensor([width, height], device=images.device)
    return _read(images, grid + 2 * field.movedim(1, -1) / size)


def _read(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def _spread(most: float, count: int) -> list[float]:
    """Numbers from `-most` to `most`; one alone is 0."""
    return [0.0] if count == 1 else torch.linspace(-most, most, count).tolist()


def _check_images(name: str, images: Tensor, eps: float) -> None:
    if images.ndim != 4:
        raise InputError(f"{name} needs images [B, C, H, W], got {tuple(images.shape)}")
    if eps != 1:
        raise InputError(
            f"{name} is bounded by its own options and changes pixels by anything: eps must be 1, "
            f"got {eps:g}"
        )
