"""Projected gradient descent (Madry et al., ICLR 2018)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, positive, search
from robust_snn.victim import Victim


def pgd(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 20,
    alpha: float | None = None,
    random_start: bool = True,
    **shared: Any,
) -> Adversarial:
    """Steps of fixed length along the steepest direction, projected onto the ball.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        alpha: Length of a step; `2.5 * eps / steps` if left out.
        random_start: Start at a random point of the ball, not at the image.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    positive("steps", steps)
    length = 2.5 * eps / steps if alpha is None else alpha

    def walk(problem: Problem) -> None:
        ball = problem.ball
        x = ball.inside(problem.dice, problem.start) if random_start else problem.images
        for _ in range(steps):
            x = ball.project(x + length * ball.steepest(problem.climb(x).gradient))
        problem.visit(x)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)
