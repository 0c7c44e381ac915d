"""Single gradient steps of full length, plain and after a random step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, search
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim


def fast_gradient(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    **shared: Any,
) -> Adversarial:
    """One step of length `eps` (FGSM: Goodfellow et al., ICLR 2015).

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """

    def walk(problem: Problem) -> None:
        _step(problem, problem.images, eps)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)


def random_fast_gradient(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    alpha: float | None = None,
    **shared: Any,
) -> Adversarial:
    """A random step of length `alpha`, then one of `eps - alpha` (RFGSM: Tramer et al., ICLR 2018).

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        alpha: Length of the random step, at most `eps`; half of it if left out.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    alpha = eps / 2 if alpha is None else alpha
    if not 0 <= alpha <= max(eps, 0):
        raise InputError(f"alpha must be between 0 and eps, got {alpha}")

    def walk(problem: Problem) -> None:
        ball, noise = problem.ball, problem.dice.normal("start", problem.start)
        start = ball.project(problem.images + alpha * ball.steepest(noise))
        _step(problem, start, eps - alpha)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)


def _step(problem: Problem, x: Tensor, length: float) -> None:
    ball = problem.ball
    problem.visit(ball.project(x + length * ball.steepest(problem.climb(x).gradient)))
