"""Auto-PGD (Croce and Hein, ICML 2020), whose every decision is an average over noise draws.

Without noise it takes the steps of the released code. With noise the release averages gradients
alone: its step sizes, best points and successes follow the last draw.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, positive, search
from robust_snn.attacks.norm_ball import wide
from robust_snn.victim import Victim


def apgd(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 100,
    rho: float = 0.75,
    **shared: Any,
) -> Adversarial:
    """Steps with momentum that are halved, from the best point on, where they no longer help.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        rho: Share of steps that must raise the loss to keep the length.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    positive("steps", steps)

    def walk(problem: Problem) -> None:
        ascend(problem, problem.ball.surface(problem.dice, problem.start), steps, rho)

    return search(walk, victim, images, labels, eps=eps, norm=norm, seed=seed, shared=shared)


def apgd_t(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 100,
    targets: int = 9,
    loss: str = "dlr",
    **shared: Any,
) -> Adversarial:
    """APGD towards each of the likeliest other classes in turn, on the targeted DLR loss.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        targets: Number of target classes, at most all but the label's.
        loss: Loss to raise.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    return apgd(
        victim,
        images,
        labels,
        eps=eps,
        norm=norm,
        seed=seed,
        steps=steps,
        targets=targets,
        loss=loss,
        **shared,
    )


def ascend(problem: Problem, start: Tensor, steps: int, rho: float = 0.75) -> None:
    """The iteration of APGD from given points `[B, ...]`."""
    ball, x, previous = problem.ball, start, start
    here = problem.climb(x)
    gradient, loss = here.gradient, here.loss
    best, best_gradient, best_loss = x, gradient, loss
    size = torch.full_like(loss, 2 * ball.eps)
    # the first loss that the release keeps count of is compared with zero, not with the start's
    losses = [torch.zeros_like(loss)]
    window, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    best_before, halved_before = best_loss, torch.ones_like(loss, dtype=torch.bool)
    check = window
    for step in range(1, steps + 1):
        inertia, previous = x - previous, x
        share = 0.75 if step > 1 else 1.0
        ahead = ball.project(x + wide(size, x) * ball.steepest(gradient))
        x = ball.project(x + share * (ahead - x) + (1 - share) * inertia)
        if step == steps:
            problem.visit(x)
            break
        here = problem.climb(x)
        gradient, loss = here.gradient, here.loss
        losses.append(loss)
        better = loss > best_loss
        best, best_gradient = _where(better, x, best), _where(better, gradient, best_gradient)
        best_loss = torch.where(better, loss, best_loss)
        if step == check:
            recent = torch.stack(losses[-window - 1 :])
            rises = (recent[1:] > recent[:-1]).sum(0)
            halve = (rises <= rho * window) | (~halved_before & (best_before >= best_loss))
            size = torch.where(halve, size / 2, size)
            x, gradient = _where(halve, best, x), _where(halve, best_gradient, gradient)
            best_before, halved_before = best_loss, halve
            window = max(window - shorter, least)
            check += window


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(wide(condition, a), a, b)
