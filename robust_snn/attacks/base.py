"""What iterative attacks share: gradients of the expected loss, the best points, the decision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.candidates import Best
from robust_snn.attacks.eot_draws import Adaptive, Estimate, Fixed, parse_draws
from robust_snn.attacks.losses import LOSSES, STEPWISE, TARGETS, Goal, choose_targets
from robust_snn.attacks.norm_ball import Ball, Dice, wide
from robust_snn.kernels import derive_seed
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import evaluating
from robust_snn.victim import Victim
from robust_snn.victim_scoring import fresh_logits


@dataclass(frozen=True)
class Adversarial:
    """What an attack made and what it believes.

    Attributes:
        images: The images it found hardest, within the threat model, `[B, C, H, W]`.
        survived: The images whose label won on the attack's own selection draws, bool `[B]`. It is
            no measurement: score the images on fresh noise, as `robust_snn.evaluate` does.
    """

    images: Tensor
    survived: Tensor


@dataclass(frozen=True)
class Search:
    """Options that all iterative attacks share.

    Attributes:
        loss: `"ce"`, `"dlr"`, `"margin"`, or `"tet"` for the cross-entropy of every step.
        targets: None for no class in particular, a number n for the n likeliest other classes in
            turn, `"random"`, `"least-likely"`, or the classes themselves, `[B]`. Any wrong answer
            counts as a success.
        restarts: Starts, in every round of targets.
        eot_loss: Draws over which the loss and its gradient are averaged: a count, or
            `"adaptive(error=0.06,most=20)"`; 1 where the victim draws nothing fresh. It multiplies
            with the victim's own `eot`, which averages logits.
        keep: Points per image among which the selection draws choose.
        select: Selection draws; 1 on a deterministic victim.
        ids: Index of each image in the attacked set, `[B]`; positions in the batch if left out.
            Random numbers depend on it, so that without noise a split into batches changes nothing.
    """

    loss: str = "ce"
    targets: int | str | Tensor | None = None
    restarts: int = 1
    eot_loss: int | str | Fixed | Adaptive = 1
    keep: int = 4
    select: int = 10
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("restarts", "keep", "select"):
            positive(name, getattr(self, name))
        if self.loss not in LOSSES:
            raise unknown("loss", str(self.loss), LOSSES)
        if isinstance(self.targets, int):
            positive("targets", self.targets)
        elif isinstance(self.targets, str) and self.targets not in TARGETS:
            raise unknown("choice of targets", self.targets, TARGETS)
        parse_draws(self.eot_loss)

    @classmethod
    def of(cls, shared: Mapping[str, Any]) -> Search:
        """The options among an attack's keyword arguments.

        Raises:
            InputError: If one is not known or has a wrong value.
        """
        known = [f.name for f in fields(cls)]
        for name in shared:
            if name not in known:
                raise unknown("option of an attack", name, known)
        return cls(**shared)


class Problem:
    """One start of an attack on some images: all that its iteration needs.

    Attributes:
        images: The clean images, `[B, ...]`.
        ball: The images that the threat model allows.
        dice: Random numbers.
        start: Number of the start.
    """

    def __init__(
        self,
        victim: Victim,
        ball: Ball,
        dice: Dice,
        start: int,
        goal: Goal,
        draws: Fixed | Adaptive,
        remember: Callable[[Tensor, Estimate], None],
    ) -> None:
        self.images, self.ball, self.dice, self.start = ball.images, ball, dice, start
        self._victim, self._goal, self._draws, self._remember = victim, goal, draws, remember
        self._climbs = 0

    def climb(self, x: Tensor) -> Estimate:
        """Gradient and value of the expected loss at points `[B, ...]`, which are remembered.

        Every image's gradient is scaled to a largest entry of 1, so that no square underflows.
        Random signs stand in for one that is zero or not finite.
        """
        estimate = self._draws.estimate(partial(self._draw, x), len(x), x.device)
        self._remember(x, estimate)
        self._climbs += 1
        largest = estimate.gradient.flatten(1).abs().amax(1)
        useless = ~((largest > 0) & largest.isfinite())
        gradient = estimate.gradient / wide(largest, x)
        if useless.any():
            signs = self.dice.uniform("sign", self.start, self._climbs).sign()
            gradient[useless] = signs[useless]
        return replace(estimate, gradient=gradient)

    @torch.no_grad()
    def visit(self, x: Tensor) -> None:
        """Remembers points `[B, ...]` whose gradient nobody needs, such as the last ones."""
        rows = torch.arange(len(x), device=x.device)
        count = self._draws.count if isinstance(self._draws, Fixed) else 2
        logits = [self._victim(x) for _ in range(count)]
        loss = torch.stack([self._goal.loss(z, rows) for z in logits]).mean(0)
        wrong = torch.stack([self._goal.wrong(z, rows) for z in logits]).mean(0)
        self._remember(x, Estimate(torch.zeros_like(x), loss, wrong, torch.full_like(loss, count)))

    def _draw(self, x: Tensor, rows: Tensor) -> Estimate:
        # draws of a part of the batch come after one of every image, which the mode learned from
        mode, partial = self._victim.gradient, len(rows) < len(x)
        with torch.enable_grad(), mode.part(rows) if partial else nullcontext():
            leaf = x[rows].detach().requires_grad_()
            logits = self._victim(leaf)
            loss = self._goal.loss(logits, rows)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        wrong = self._goal.wrong(logits, rows)
        return Estimate(gradient, loss.detach(), wrong, torch.ones_like(wrong))


def search(
    walk: Callable[[Problem], None],
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str,
    seed: int,
    shared: Mapping[str, Any],
) -> Adversarial:
    """Runs an iteration from every start and returns the hardest points it met.

    The victim's weights, modes and noise stay as they were, and no global generator is used. On a
    deterministic victim, images that one start fooled are left out of the next.

    Args:
        walk: The iteration; `Problem.climb` and `Problem.visit` remember its points.
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    options = Search.of(shared)
    with attack_view(victim, seed) as view:
        x, y, ids = on_device(view, images, labels, options.ids)
        Ball(x[:0], eps, norm)  # refuses a wrong eps or norm
        if not len(x):
            return Adversarial(images.detach().clone(), torch.ones_like(labels, dtype=torch.bool))
        if options.loss in STEPWISE:
            view = view.replace(output="steps", cost=view.cost)
        fresh = view.stochastic and view.noise == "fresh"
        draws = parse_draws(options.eot_loss) if fresh else Fixed(1)
        select = options.select if view.stochastic else 1
        classes = view.sample(x[:1], ids[:1]).shape[1]
        rounds: list[Tensor | None] = [None]
        if options.targets is not None:
            clean = torch.stack(fresh_logits(view, x, ids, select, "clean")).mean(0)
            rounds = [*choose_targets(options.targets, clean, y, Dice(seed, ids, x))]
        best = Best(x, options.keep)
        for start in range(len(rounds) * options.restarts):
            rows = torch.arange(len(x), device=x.device)
            if not view.stochastic:
                rows = rows[~best.fooled]
            if not len(rows):
                break
            targets = rounds[start // options.restarts]
            view.gradient.restart()
            problem = Problem(
                view,
                Ball(x[rows], eps, norm),
                Dice(seed, ids[rows], x),
                start,
                Goal(options.loss, y[rows], None if targets is None else targets[rows], classes),
                draws,
                partial(best.offer, rows),
            )
            walk(problem)
        adversarial, survived = best.choose(view, y, ids, select)
    return Adversarial(adversarial.to(images.device), survived.to(images.device))


@contextmanager
def attack_view(victim: Victim, seed: int) -> Iterator[Victim]:
    """A view of the victim in eval mode, whose passes count as the victim's.

    Its noise depends on `seed` alone, and what its gradient mode remembers is its own.
    """
    with evaluating(victim.net):
        gradient, noise = copy.deepcopy(victim.gradient), derive_seed(seed, "noise")
        yield victim.replace(seed=noise, gradient=gradient, output="logits", cost=victim.cost)


def on_device(
    victim: Victim, images: Tensor, labels: Tensor, ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and ids where the network is, as float32 and int64."""
    device = next((p.device for p in victim.net.parameters()), images.device)
    if ids is None:
        ids = torch.arange(len(images))
    if not len(images) == len(labels) == len(ids):
        raise InputError(
            f"images, labels and ids must be as many, got {len(images)}, {len(labels)}, {len(ids)}"
        )
    x = images.detach().to(device).float().contiguous()
    return x, labels.to(device).long(), ids.to(device).long()


def positive(name: str, value: Any) -> None:
    """Refuses what is not a whole number of at least 1.

    Raises:
        InputError: Naming the option.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def mean_size(gradient: Tensor) -> Tensor:
    """Mean absolute entry of every image's gradient, `[B, 1, ...]`."""
    return wide(gradient.flatten(1).abs().mean(1), gradient)
