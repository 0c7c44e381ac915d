"""SA-PGD (Wang et al., arXiv 2512.22522): steps damped where the gradient keeps changing sign.

Schedule and constants are those of the release. What it gets wrong is right here: a zero gradient
makes no NaN, the hardest point is returned and not the clean image or the last success, the mean of
all draws decides and not the last draw, restarts differ, and L2 means the L2 ball.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, mean_size, positive, search
from robust_snn.victim import Victim


def sapgd(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 100,
    **shared: Any,
) -> Adversarial:
    """Sign-like steps whose length is halved ever more often.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    positive("steps", steps)
    halvings = set(halving_steps(steps))

    def walk(problem: Problem) -> None:
        ball = problem.ball
        x = ball.surface(problem.dice, problem.start)
        # in L2, the root of the number of pixels makes of a saturated step one of length `size`
        spread = 1.0 if norm == "Linf" else problem.images[0].numel() ** -0.5
        size, momentum, square = eps, torch.zeros_like(x), torch.zeros_like(x)
        for step in range(1, steps + 1):
            gradient = problem.climb(x).gradient
            momentum = 0.5 * momentum + gradient / mean_size(gradient)
            square = 0.8 * square + gradient**2 / mean_size(gradient**2)
            direction = momentum / (square**0.5 + 1e-12)
            x = ball.project(x + ball.limit(direction * size * spread, size))
            if step in halvings:
                size /= 2
        problem.visit(x)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)


def halving_steps(steps: int) -> list[int]:
    """The steps after which the length is halved: 22, 41, 57, 70, 80, 87, 93, 99 of 100."""
    window, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], window
    while at <= steps:
        found.append(at)
        window = max(window - shorter, least)
        at += window
    return found
