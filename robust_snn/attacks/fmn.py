"""Fast minimum-norm attack (Pintor et al., NeurIPS 2021): the nearest image with a wrong answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.norm_ball import l2_norms, per_image, where_images
from robust_snn.attacks.problem import Problem

FIRST_STEPS = {"Linf": 10.0, "L2": 1.0}  # in L2, as in the paper
LAST = 1e-3  # of the first step and of the first change of a radius


@dataclass(frozen=True, kw_only=True)
class FMN(IterativeAttack):
    """Steps on a ball of every image's own, smaller after a wrong answer and larger after a right.

    It seeks the least radius and needs none. What it finds beyond the threat's is pulled back into
    it; with the largest radius (`eps=1` in Linf), the distance of the result is the least found.

    Attributes:
        steps: Gradients per start.
        loss: Loss to raise; the margin says how far the boundary may be.
        alpha: L2 length of the first step; the paper's for the norm if None. Later ones fall to a
            thousandth of it along a cosine.
        gamma: Share by which a radius changes in the first step, which falls alike.
    """

    name = "fmn"
    takes_start = True
    loss: str = "margin"
    alpha: float | None = None
    gamma: float = 0.05

    def run(self, problem: Problem) -> None:
        images, norm = problem.images, problem.norm
        first = FIRST_STEPS[norm] if self.alpha is None else self.alpha
        unrecorded = problem.enlarged(1.0)
        x = images if problem.given is None else problem.given
        if problem.start:
            x = problem.ball.random_inside(problem.rng, problem.start)
        nearest, least = x, torch.full_like(images.flatten(1)[:, 0], math.inf)
        radius = least
        for step in range(self.steps):
            share = max(LAST, (1 + math.cos(math.pi * step / self.steps)) / 2)
            estimate = unrecorded.loss_gradient(x)
            wrong, size = estimate.wrong > 0.5, _length(x - images, norm)
            nearer = wrong & (size < least)
            nearest, least = where_images(nearer, x, nearest), torch.where(nearer, size, least)
            to_boundary = size + estimate.loss.abs() / estimate.slope(norm).clamp(min=1e-12)
            # the paper stops at this distance, and so just before the boundary of a linear network
            larger = torch.where(least.isfinite(), radius, to_boundary) * (1 + share * self.gamma)
            smaller = torch.minimum(radius * (1 - share * self.gamma), least)
            radius = torch.where(wrong, smaller, larger)
            gradient = estimate.gradient
            move = gradient / per_image(l2_norms(gradient).clamp(min=1e-30), x).to(x.dtype)
            x = images + _shortened(x + share * first * move - images, radius, norm)
            x = x.clamp(0, 1)
        problem.record(problem.ball.project(where_images(least.isfinite(), nearest, x)))


def _length(delta: Tensor, norm: str) -> Tensor:
    """Norm of every image's change, `[B]`."""
    return delta.flatten(1).norm(math.inf if norm == "Linf" else 2, dim=1)


def _shortened(delta: Tensor, radius: Tensor, norm: str) -> Tensor:
    """Changes `[B, ...]` projected onto balls of radii `[B]`."""
    if norm == "Linf":
        most = per_image(radius, delta)
        return torch.clamp(delta, -most, most)
    scale = (radius / _length(delta, norm).clamp(min=1e-30)).clamp(max=1)
    return delta * per_image(scale, delta)
