"""Direct optimisation (NSNN, Patterns 2023): ascent on the sphere of all steps of length eps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, positive, search
from robust_snn.attacks.norm_ball import wide
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim


def do(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "L2",
    seed: int = 0,
    steps: int = 30,
    lr: float | None = None,
    **shared: Any,
) -> Adversarial:
    """Adam on the sphere, whose points are then cut to [0, 1].

    Adam moves a pixel by about `lr` over the root of the number of pixels at most, and so the image
    by `lr`. The release moves pixels of normalised images by 0.002.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"L2"`; other norms have no sphere to move on smoothly.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        lr: Length of a step; `2.5 * eps / steps` if left out.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    positive("steps", steps)
    if norm != "L2":
        raise InputError(f"do moves on a sphere, which is L2's; got norm {norm}")
    length = 2.5 * eps / steps if lr is None else lr

    def walk(problem: Problem) -> None:
        ball = problem.ball
        x = ball.surface(problem.dice, problem.start)
        mean, square = torch.zeros_like(x), torch.zeros_like(x)
        for step in range(1, steps + 1):
            gradient = problem.climb(x).gradient
            radius = ball.steepest(x - problem.images)
            gradient -= wide((gradient * radius).flatten(1).sum(1), x) * radius
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            adam = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            step_taken = radius * eps + adam * length / x[0].numel() ** 0.5
            x = ball.project(problem.images + eps * ball.steepest(step_taken))
        problem.visit(x)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)
