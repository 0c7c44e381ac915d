"""Auto-PGD (Croce and Hein, ICML 2020), whose every decision is an average over noise draws.

Without noise it takes the steps of the released code. With noise the release averages gradients
alone: its step sizes, best points and successes follow the last draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.apgd_l1 import ascend_from_larger_balls, sparse_ascent
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.norm_ball import per_image, where_images
from robust_snn.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class APGD(IterativeAttack):
    """Steps with momentum that are halved, from the best point on, where they no longer help.

    In L1 the steps are those of `apgd_l1`.

    Attributes:
        steps: Gradients per start.
        rho: Share of steps that must raise the loss to keep the length, in Linf and L2.
    """

    name = "apgd"
    norms = ("Linf", "L2", "L1")
    rho: float = 0.75
    takes_start = True

    def run(self, problem: Problem) -> None:
        start = problem.given
        if problem.norm == "L1":
            if start is None:
                ascend_from_larger_balls(problem, self.steps)
            else:
                sparse_ascent(problem, start, self.steps)
            return
        if start is None:
            start = problem.ball.random_surface(problem.rng, problem.start)
        ascend(problem, start, self.steps, self.rho)


@dataclass(frozen=True, kw_only=True)
class APGDT(APGD):
    """APGD towards each of the likeliest other classes in turn, on the targeted DLR loss.

    Attributes:
        targets: Number of target classes, at most all but the label's; or as in `GradientAttack`.
        loss: Loss to raise.
    """

    name = "apgd-t"
    targets: int | str | Tensor | None = 9
    loss: str = "dlr"


def ascend(problem: Problem, start: Tensor, steps: int, rho: float = 0.75) -> None:
    """The iteration of APGD from given points `[B, ...]`."""
    ball, x, previous = problem.ball, start, start
    estimate = problem.loss_gradient(x)
    gradient, loss = estimate.gradient, estimate.loss
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
        ahead = ball.project(x + per_image(size, x) * ball.steepest(gradient))
        x = ball.project(x + share * (ahead - x) + (1 - share) * inertia)
        if step == steps:
            problem.record(x)
            break
        estimate = problem.loss_gradient(x)
        gradient, loss = estimate.gradient, estimate.loss
        losses.append(loss)
        better = loss > best_loss
        best = where_images(better, x, best)
        best_gradient = where_images(better, gradient, best_gradient)
        best_loss = torch.where(better, loss, best_loss)
        if step == check:
            recent = torch.stack(losses[-window - 1 :])
            rises = (recent[1:] > recent[:-1]).sum(0)
            halve = (rises <= rho * window) | (~halved_before & (best_before >= best_loss))
            size = torch.where(halve, size / 2, size)
            x, gradient = where_images(halve, best, x), where_images(halve, best_gradient, gradient)
            best_before, halved_before = best_loss, halve
            window = max(window - shorter, least)
            check += window
