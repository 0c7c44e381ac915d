"""One start of an attack on some images: gradients of the expected loss, and the points seen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import Goal, margin
from robust_snn.attacks.eot_draws import AdaptiveDraws, FixedDraws, LossEstimate
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.norm_ball import NormBall, per_image
from robust_snn.victim import Victim


class AttackInputs(NamedTuple):
    """What is attacked, under which threat.

    Attributes:
        victim: The victim, in eval mode and with noise of its own.
        images: Clean images on the victim's device, float32 `[B, ...]`.
        labels: int64 `[B]`.
        ids: Index of each image in the attacked set, int64 `[B]`.
        eps: Radius of the threat.
        norm: Its norm.
        seed: Seed of the attack's random numbers.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    ids: Tensor
    eps: float
    norm: str
    seed: int

    @property
    def rng(self) -> ImageRng:
        """Random numbers for the images."""
        return ImageRng(self.seed, self.ids, self.images)

    def subset(self, rows: Tensor) -> AttackInputs:
        """The same for some of the images."""
        images, labels, ids = self.images[rows], self.labels[rows], self.ids[rows]
        return self._replace(images=images, labels=labels, ids=ids)


class Problem:
    """One start of an attack: all that its iteration needs.

    Args:
        inputs: What is attacked.
        start: Number of the start.
        goal: The loss of these images.
        draws: Draws that a gradient averages.
        keep: Called with all points `[B, ...]` that are evaluated and what they came to.

    Attributes:
        images: The clean images, `[B, ...]`.
        eps: Radius of the threat.
        norm: Its norm.
        rng: Random numbers of the images.
        start: Number of the start.
    """

    def __init__(
        self,
        inputs: AttackInputs,
        start: int,
        goal: Goal,
        draws: FixedDraws | AdaptiveDraws,
        keep: Callable[[Tensor, LossEstimate], None],
    ) -> None:
        self.images, self.eps, self.norm = inputs.images, inputs.eps, inputs.norm
        self.rng, self.start = inputs.rng, start
        self._victim, self._goal, self._draws, self._keep = inputs.victim, goal, draws, keep
        self._gradients = 0

    @cached_property
    def ball(self) -> NormBall:
        """The images that the threat allows, where its norm is Linf or L2."""
        return NormBall(self.images, self.eps, self.norm)

    def loss_gradient(self, x: Tensor) -> LossEstimate:
        """Gradient and value of the expected loss at points `[B, ...]`, which are recorded.

        Every image's gradient is scaled to a largest entry of 1, so that no square underflows.
        Random signs stand in for one that is zero or not finite.
        """
        estimate = self._draws.estimate(partial(self._draw, x), len(x), x.device)
        self._keep(x, estimate)
        self._gradients += 1
        largest = estimate.gradient.flatten(1).abs().amax(1)
        useless = ~((largest > 0) & largest.isfinite())
        gradient = estimate.gradient / per_image(largest, x)
        if useless.any():
            signs = self.rng.uniform("sign", self.start, self._gradients).sign()
            gradient[useless] = signs[useless]
            self._victim.cost.count_replaced(int(useless.sum()))
        return replace(estimate, gradient=gradient)

    @torch.no_grad()
    def record(self, x: Tensor) -> None:
        """Evaluates points `[B, ...]` whose gradient is not needed, such as the last ones."""
        rows = torch.arange(len(x), device=x.device)
        count = self._draws.count if isinstance(self._draws, FixedDraws) else 2
        logits = [self._victim(x) for _ in range(count)]
        loss = torch.stack([self._goal.loss(z, rows) for z in logits]).mean(0)
        wrong = torch.stack([self._goal.wrong(z, rows) for z in logits]).mean(0)
        draws = torch.full_like(loss, count)
        self._keep(x, LossEstimate(torch.zeros_like(x), loss, wrong, draws))

    def _draw(self, x: Tensor, rows: Tensor) -> LossEstimate:
        # draws of a part of the batch come after one of every image, which statistics learned from
        statistics, is_part = self._victim.statistics, len(rows) < len(x)
        with torch.enable_grad(), statistics.part(rows) if is_part else nullcontext():
            leaf = x[rows].detach().requires_grad_()
            logits = self._victim(leaf)
            loss = self._goal.loss(logits, rows)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        wrong = self._goal.wrong(logits, rows)
        return LossEstimate(gradient, loss.detach(), wrong, torch.ones_like(wrong))


def mean_size(gradient: Tensor) -> Tensor:
    """Mean absolute entry of every image's gradient, `[B, 1, ...]`."""
    return per_image(gradient.flatten(1).abs().mean(1), gradient)


@torch.enable_grad()
def margin_gradient(variant: Victim, x: Tensor, labels: Tensor, draws: int = 1) -> Tensor:
    """Gradient of the margin, averaged over draws of a noisy victim, `[B, ...]`.

    Args:
        variant: The victim as an attack sees it, see `attack_variant`.
        x: Images `[B, ...]`, which may lie outside [0, 1].
        labels: `[B]`.
        draws: Number of draws.
    """
    total, count = torch.zeros_like(x), draws if variant.stochastic else 1
    for _ in range(count):
        leaf = x.clone().requires_grad_()
        total += torch.autograd.grad(margin(variant(leaf), labels).sum(), leaf)[0]
    return total / count
