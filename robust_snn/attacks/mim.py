"""The momentum iterative method (Dong et al., CVPR 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, mean_size, positive, search
from robust_snn.victim import Victim


def mim(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 10,
    alpha: float | None = None,
    decay: float = 1.0,
    random_start: bool = False,
    **shared: Any,
) -> Adversarial:
    """Steps along a running sum of gradients, each divided by its mean absolute entry.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        alpha: Length of a step; `eps / steps` if left out.
        decay: Factor by which the sum forgets per step.
        random_start: Start at a random point of the ball, not at the image.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    positive("steps", steps)
    length = eps / steps if alpha is None else alpha

    def walk(problem: Problem) -> None:
        ball = problem.ball
        x = ball.inside(problem.dice, problem.start) if random_start else problem.images
        momentum = torch.zeros_like(x)
        for _ in range(steps):
            gradient = problem.climb(x).gradient
            momentum = decay * momentum + gradient / mean_size(gradient)
            x = ball.project(x + length * ball.steepest(momentum))
        problem.visit(x)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)
