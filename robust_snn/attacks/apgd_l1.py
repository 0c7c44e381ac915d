"""Auto-PGD in L1 (Croce and Hein, ICML 2021): sparse steps, from larger balls inwards."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.norm_ball import per_image, where_images
from robust_snn.attacks.problem import Problem

PHASES = ((3, 0.3), (2, 0.3), (1, 0.4))  # radii in units of eps, and their shares of the steps
SPARSER = 1.5  # by which steps move fewer entries than the best point does, or get shorter
SHORTEST = 10  # times shorter than eps is the shortest step


def ascend_from_larger_balls(problem: Problem, steps: int) -> None:
    """APGD-L1 as AutoAttack runs it; only points within `eps` count.

    With fewer than ten steps, all of them are within `eps`.
    """
    phases = [(factor, int(share * steps)) for factor, share in PHASES] if steps >= 10 else []
    x = problem.enlarged(PHASES[0][0]).ball.random_surface(problem.rng, problem.start)
    for factor, count in phases[:-1]:
        larger = problem.enlarged(factor)
        x = sparse_ascent(larger, larger.ball.project(x), count)
        steps -= count
    sparse_ascent(problem, problem.ball.project(x), steps)


def sparse_ascent(problem: Problem, start: Tensor, steps: int) -> Tensor:
    """Steps along the signs of the largest entries of the gradient; the best point, `[B, ...]`.

    Every few steps, the number of entries follows that of the best point so far. Where that shrinks
    a lot, the steps are long again and start there; elsewhere they get shorter.
    """
    ball, x, entries = problem.ball, start, start[0].numel()
    estimate = problem.loss_gradient(x)
    gradient, loss = estimate.gradient, estimate.loss
    best, best_gradient, best_loss = x, gradient, loss
    before = _changed(x, problem.images)
    share = before / entries / SPARSER
    size = torch.full_like(share, problem.eps)
    every = max(int(0.04 * steps), 1)
    for step in range(1, steps + 1):
        direction = _sparse_signs(gradient, share)
        x = ball.project(x + per_image(size, x) * direction)
        if step == steps:
            problem.record(x)
            break
        estimate = problem.loss_gradient(x)
        gradient, loss = estimate.gradient, estimate.loss
        better = loss > best_loss
        best = where_images(better, x, best)
        best_gradient = where_images(better, gradient, best_gradient)
        best_loss = torch.where(better, loss, best_loss)
        if step % every == 0:
            changed = _changed(best, problem.images)
            sparser, share = changed / before < 0.95, changed / entries / SPARSER
            shorter = (size / SPARSER).clamp(min=problem.eps / SHORTEST)
            size = torch.where(sparser, torch.full_like(size, problem.eps), shorter)
            x = where_images(sparser, best, x)
            gradient = where_images(sparser, best_gradient, gradient)
            before = changed
    return best


def _sparse_signs(gradient: Tensor, share: Tensor) -> Tensor:
    """The signs of a share `[B]` of every gradient's entries, the largest, over their number."""
    size = gradient.flatten(1).abs()
    rank = ((1 - share) * size.shape[1]).long().clamp(0, size.shape[1] - 1)
    least = size.sort(1)[0].gather(1, rank[:, None])
    signs = gradient.flatten(1).sign() * (size >= least)
    return (signs / signs.abs().sum(1, keepdim=True).clamp(min=1)).reshape(gradient.shape)


def _changed(x: Tensor, images: Tensor) -> Tensor:
    """The number of entries that differ from the images, at least 1, float32 `[B]`."""
    return (x != images).flatten(1).sum(1).clamp(min=1).float()
