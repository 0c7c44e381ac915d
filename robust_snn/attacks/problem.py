"""One start of an attack on some images: gradients of the expected loss, and the points seen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import Goal, margin
from robust_snn.attacks.eot_draws import AdaptiveDraws, FixedDraws, LossEstimate
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.loss_schedules import Moment
from robust_snn.attacks.norm_ball import NormBall, per_image
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

CHOOSING_DRAWS = 10  # of attacks that have no option for it


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


class Run(NamedTuple):
    """What the steps of a start depend on besides its points.

    Attributes:
        steps: Number of steps.
        clean: Logits of the clean images `[B, K]`, where the loss has a schedule.
        mixed: Variants of the victim whose gradients are added to its own.
        given: Where to start, `[B, ...]`, in place of the attack's own choice.
    """

    steps: int = 1
    clean: Tensor | None = None
    mixed: tuple[Victim, ...] = ()
    given: Tensor | None = None


class Problem:
    """One start of an attack: all that its iteration needs.

    Args:
        inputs: What is attacked.
        start: Number of the start.
        goal: The loss of these images.
        draws: Draws that a gradient averages.
        keep: Called with all points `[B, ...]` that are evaluated and what they came to.
        run: What else steps depend on.

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
        run: Run | None = None,
    ) -> None:
        self.images, self.eps, self.norm = inputs.images, inputs.eps, inputs.norm
        self.rng, self.start, self._ids = inputs.rng, start, inputs.ids
        self._evaluations = count()  # of enlarged problems, too
        self._victim, self._goal, self._draws, self._keep = inputs.victim, goal, draws, keep
        self._gradients, self._run = 0, run or Run()

    @cached_property
    def ball(self) -> NormBall:
        """The images that the threat allows, where its norm is not L0."""
        return NormBall(self.images, self.eps, self.norm)

    @property
    def given(self) -> Tensor | None:
        """Where to start in place of the attack's own choice, within the threat, `[B, ...]`."""
        return None if self._run.given is None else self.ball.project(self._run.given)

    def enlarged(self, factor: float) -> Problem:
        """The same in a larger ball, none of whose points are recorded."""
        larger = copy(self)
        larger.eps, larger._keep = factor * self.eps, lambda x, estimate: None
        larger.__dict__.pop("ball", None)
        return larger

    def loss_gradient(self, x: Tensor) -> LossEstimate:
        """Gradient and value of the expected loss at points `[B, ...]`, which are recorded.

        Every image's gradient is scaled to a largest entry of 1, so that no square underflows.
        Random signs stand in for one that is zero or not finite.
        """
        number, drawn = next(self._evaluations), count()

        def draw(rows: Tensor) -> LossEstimate:
            return self._draw(x, rows, self._purpose(number, next(drawn)))

        estimate = self._draws.estimate(draw, len(x), x.device)
        self._keep(x, estimate)
        self._gradients += 1
        largest = estimate.gradient.flatten(1).abs().amax(1)
        useless = ~((largest > 0) & largest.isfinite())
        gradient = estimate.gradient / per_image(largest, x)
        if useless.any():
            signs = self.rng.uniform("sign", self.start, self._gradients).sign()
            gradient[useless] = signs[useless]
            self._victim.cost.count_replaced(int(useless.sum()))
        return replace(estimate, gradient=gradient, largest=largest)

    @torch.no_grad()
    def record(self, x: Tensor) -> None:
        """Evaluates points `[B, ...]` whose gradient is not needed, such as the last ones."""
        rows, number = torch.arange(len(x), device=x.device), next(self._evaluations)
        draws = self._draws.count if isinstance(self._draws, FixedDraws) else 2
        logits = [self._victim(x, self._ids, self._purpose(number, i)) for i in range(draws)]
        loss = torch.stack([self._goal.loss(z, rows) for z in logits]).mean(0)
        wrong = torch.stack([self._goal.wrong(z, rows) for z in logits]).mean(0)
        drawn = torch.full_like(loss, draws)
        self._keep(x, LossEstimate(torch.zeros_like(x), loss, wrong, drawn))

    def _purpose(self, evaluation: int, draw: int) -> tuple[str | int, ...]:
        """What the noise of a draw follows from, besides the image."""
        return "loss", self.start, evaluation, draw

    def _draw(self, x: Tensor, rows: Tensor, purpose: tuple[str | int, ...]) -> LossEstimate:
        draw_of = partial(self._draw_of, x, rows, purpose)
        estimate = draw_of(self._victim)
        if self._run.mixed:
            others = [draw_of(other).gradient for other in self._run.mixed]
            every = [of_mean_one(gradient) for gradient in (estimate.gradient, *others)]
            estimate.gradient = torch.stack(every).sum(0)
        return estimate

    def _draw_of(
        self, x: Tensor, rows: Tensor, purpose: tuple[str | int, ...], victim: Victim
    ) -> LossEstimate:
        # draws of a part of the batch come after one of every image, which statistics learned from
        statistics, is_part = victim.statistics, len(rows) < len(x)
        with torch.enable_grad(), statistics.part(rows) if is_part else nullcontext():
            leaf = x[rows].detach().requires_grad_()
            logits = victim(leaf, self._ids[rows], purpose)
            loss = self._goal.loss(logits, rows)
            climbed = self._goal.climbed(logits, rows, loss, self._moment(rows))
            (gradient,) = torch.autograd.grad(climbed.sum(), leaf)
        wrong = self._goal.wrong(logits, rows)
        return LossEstimate(gradient, loss.detach(), wrong, torch.ones_like(wrong))

    def _moment(self, rows: Tensor) -> Moment | None:
        if self._run.clean is None:
            return None
        progress = min(1.0, self._gradients / self._run.steps)
        return Moment(progress, self.start, self._run.clean[rows])


def mean_size(gradient: Tensor) -> Tensor:
    """Mean absolute entry of every image's gradient, `[B, 1, ...]`."""
    return per_image(gradient.flatten(1).abs().mean(1), gradient)


def of_mean_one(gradient: Tensor) -> Tensor:
    """Every image's gradient `[B, ...]` over its mean size; 0 where it is zero or not finite."""
    scaled = gradient / mean_size(gradient)
    fine = per_image(scaled.flatten(1).isfinite().all(1), gradient)
    return torch.where(fine, scaled, torch.zeros_like(scaled))


def fresh_answers(
    inputs: AttackInputs, x: Tensor, draws: int = CHOOSING_DRAWS, purpose: str = "choose"
) -> tuple[Tensor, Tensor]:
    """Mean margin and share of wrong answers on fresh draws at points `[B, ...]`, `[B]` each.

    Args:
        inputs: What is attacked.
        x: The points.
        draws: Number of draws; one of a deterministic victim.
        purpose: Name of the stream of draws.
    """
    victim, labels = inputs.victim, inputs.labels
    logits = fresh_logits(victim, x, inputs.ids, draws if victim.stochastic else 1, purpose)
    margins = torch.stack([margin(z, labels) for z in logits]).mean(0)
    return margins, torch.stack([(z.argmax(1) != labels).float() for z in logits]).mean(0)


@torch.enable_grad()
def margin_gradient(
    variant: Victim,
    x: Tensor,
    labels: Tensor,
    draws: int = 1,
    ids: Tensor | None = None,
    purpose: tuple[str | int, ...] = (),
) -> Tensor:
    """Gradient of the margin, averaged over draws of a noisy victim, `[B, ...]`.

    Args:
        variant: The victim as an attack sees it, see `attack_variant`.
        x: Images `[B, ...]`, which may lie outside [0, 1].
        labels: `[B]`.
        draws: Number of draws.
        ids: Index of each image in the attacked set, `[B]`, as in a call of a `Victim`.
        purpose: What the draws are for, likewise.
    """
    total, draws = torch.zeros_like(x), draws if variant.stochastic else 1
    for draw in range(draws):
        leaf = x.clone().requires_grad_()
        logits = variant(leaf, ids, (*purpose, draw))
        total += torch.autograd.grad(margin(logits, labels).sum(), leaf)[0]
    return total / draws
