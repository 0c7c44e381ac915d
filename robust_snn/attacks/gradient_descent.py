"""Attacks that follow the gradient, from a single step to damped and adaptive ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.gradient_attack import GradientAttack, IterativeAttack
from robust_snn.attacks.norm_ball import per_image
from robust_snn.attacks.problem import Problem, mean_size
from robust_snn.utils.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """One step of length `eps` (Goodfellow et al., ICLR 2015)."""

    name = "fgsm"
    takes_start = True

    def run(self, problem: Problem) -> None:
        _single_step(problem, _start(problem, False), problem.eps)


@dataclass(frozen=True, kw_only=True)
class RFGSM(GradientAttack):
    """A random step of length `alpha`, then one of `eps - alpha` (Tramer et al., ICLR 2018).

    Attributes:
        alpha: Length of the random step, at most `eps`; half of it if None.
    """

    name = "rfgsm"
    takes_start = True
    alpha: float | None = None

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        if self.alpha is not None and self.alpha > eps:
            raise InputError(f"alpha of {self.name} must be at most eps = {eps:g}: {self.alpha:g}")

    def run(self, problem: Problem) -> None:
        eps, ball = problem.eps, problem.ball
        alpha = eps / 2 if self.alpha is None else self.alpha
        start = problem.given
        if start is None:
            direction = ball.steepest(problem.rng.normal("start", problem.start))
            start = ball.project(problem.images + alpha * direction)
        _single_step(problem, start, eps - alpha)


@dataclass(frozen=True, kw_only=True)
class PGD(IterativeAttack):
    """Steps of fixed length along the steepest direction, projected (Madry et al., ICLR 2018).

    Attributes:
        steps: Gradients per start.
        alpha: Length of a step; `2.5 * eps / steps` if None.
        random_start: Start at a random point of the ball, not at the image.
    """

    name = "pgd"
    takes_start = True
    steps: int = 20
    alpha: float | None = None
    random_start: bool = True

    def run(self, problem: Problem) -> None:
        ball = problem.ball
        length = 2.5 * problem.eps / self.steps if self.alpha is None else self.alpha
        x = _start(problem, self.random_start)
        for _ in range(self.steps):
            x = ball.project(x + length * ball.steepest(problem.loss_gradient(x).gradient))
        problem.record(x)


@dataclass(frozen=True, kw_only=True)
class MIM(IterativeAttack):
    """Momentum iterative method: steps along a running sum of gradients (Dong et al., CVPR 2018).

    Every gradient is divided by its mean absolute entry before it is added.

    Attributes:
        steps: Gradients per start.
        alpha: Length of a step; `eps / steps` if None.
        decay: Factor on the sum in every step.
        random_start: Start at a random point of the ball, not at the image.
    """

    name = "mim"
    takes_start = True
    steps: int = 10
    alpha: float | None = None
    decay: float = 1.0
    random_start: bool = False

    def run(self, problem: Problem) -> None:
        ball = problem.ball
        length = problem.eps / self.steps if self.alpha is None else self.alpha
        x = _start(problem, self.random_start)
        momentum = torch.zeros_like(x)
        for _ in range(self.steps):
            gradient = problem.loss_gradient(x).gradient
            momentum = self.decay * momentum + gradient / mean_size(gradient)
            x = ball.project(x + length * ball.steepest(momentum))
        problem.record(x)


@dataclass(frozen=True, kw_only=True)
class SAPGD(IterativeAttack):
    """Steps damped where the gradient keeps changing sign (Wang et al., arXiv 2512.22522).

    Sign-like steps whose length is halved ever more often. Schedule and constants are those of the
    release. What it gets wrong is right here: a zero gradient makes no NaN, the hardest point is
    returned and not the clean image or the last success, the mean of all draws decides and not the
    last draw, restarts differ, and L2 means the L2 ball.

    Attributes:
        steps: Gradients per start.
    """

    name = "sapgd"
    takes_start = True

    def run(self, problem: Problem) -> None:
        ball, halvings = problem.ball, set(halving_steps(self.steps))
        x = _on_surface(problem)
        # in L2, the root of the number of pixels makes of a saturated step one of length `size`
        spread = 1.0 if problem.norm == "Linf" else problem.images[0].numel() ** -0.5
        size, momentum, square = problem.eps, torch.zeros_like(x), torch.zeros_like(x)
        for step in range(1, self.steps + 1):
            gradient = problem.loss_gradient(x).gradient
            momentum = 0.5 * momentum + gradient / mean_size(gradient)
            square = 0.8 * square + gradient**2 / mean_size(gradient**2)
            direction = momentum / (square**0.5 + 1e-12)
            x = ball.project(x + ball.shorten(direction * size * spread, size))
            if step in halvings:
                size /= 2
        problem.record(x)


@dataclass(frozen=True, kw_only=True)
class DO(IterativeAttack):
    """Direct optimisation: Adam on the sphere of all steps of length `eps` (NSNN, Patterns 2023).

    Its points are then cut to [0, 1]. Adam moves a pixel by about `lr` over the root of the number
    of pixels at most, and so the image by `lr`. The release moves pixels of normalised images by
    0.002. Norms other than L2 have no sphere to move on smoothly.

    Attributes:
        steps: Gradients per start.
        lr: Length of a step; `2.5 * eps / steps` if None.
    """

    name = "do"
    takes_start = True
    norms = ("L2",)
    steps: int = 30
    lr: float | None = None

    def run(self, problem: Problem) -> None:
        ball, eps = problem.ball, problem.eps
        length = 2.5 * eps / self.steps if self.lr is None else self.lr
        x = _on_surface(problem)
        mean, square = torch.zeros_like(x), torch.zeros_like(x)
        for step in range(1, self.steps + 1):
            gradient = problem.loss_gradient(x).gradient
            radius = ball.steepest(x - problem.images)
            gradient -= per_image((gradient * radius).flatten(1).sum(1), x) * radius
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            adam = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            delta = radius * eps + adam * length / x[0].numel() ** 0.5
            x = ball.project(problem.images + eps * ball.steepest(delta))
        problem.record(x)


def halving_steps(steps: int) -> list[int]:
    """The steps after which SA-PGD halves its length: 22, 41, 57, 70, 80, 87, 93, 99 of 100."""
    window, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    halvings, at = [], window
    while at <= steps:
        halvings.append(at)
        window = max(window - shorter, least)
        at += window
    return halvings


def _start(problem: Problem, random: bool) -> Tensor:
    """The given points, or random ones of the ball, or the clean images, `[B, ...]`."""
    if problem.given is not None:
        return problem.given
    if not random:
        return problem.images
    return problem.ball.random_inside(problem.rng, problem.start)


def _on_surface(problem: Problem) -> Tensor:
    """The given points, or random ones at the largest distance, `[B, ...]`."""
    start = problem.given
    return problem.ball.random_surface(problem.rng, problem.start) if start is None else start


def _single_step(problem: Problem, x: Tensor, length: float) -> None:
    ball, gradient = problem.ball, problem.loss_gradient(x).gradient
    problem.record(ball.project(x + length * ball.steepest(gradient)))
