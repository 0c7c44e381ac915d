"""Attacks that follow gradients from several starts and keep the hardest points."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import (
    LOSSES,
    STEPWISE,
    TARGET_ORDERS,
    TARGET_RULES,
    Goal,
    choose_targets,
    least_classes_of,
)
from robust_snn.attacks.base import Attack
from robust_snn.attacks.candidates import Candidates
from robust_snn.attacks.eot_draws import AdaptiveDraws, FixedDraws, parse_draws
from robust_snn.attacks.loss_schedules import SCHEDULES
from robust_snn.attacks.malt_targets import malt_order
from robust_snn.attacks.problem import AttackInputs, Problem, Run
from robust_snn.gradients import parse_mode
from robust_snn.neurons.noise_source import POLICIES
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import number, whole
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

# starts that suites fill in: the worst version of every image so far, and what the same attack
# makes of the network of --source-checkpoint
WORST, SOURCE = "worst", "checkpoint"
POSITIVE = ("alpha", "lr", "temperature")  # of all attacks that have them
SHARES = ("rho", "gamma")
FACTORS = ("decay",)  # may be 0


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack):
    """Base of attacks that evaluate points from several starts and keep the hardest.

    On a deterministic victim, images that one start misclassifies are left out of the next.

    Attributes:
        loss: `"ce"`, `"dlr"`, `"margin"`, `"pm"` for the margin of probabilities, `"chance"` for
            the share of draws that are wrong, `"tet"` for the cross-entropy of every step; `"gama"`
            and `"md"` climb something else first, see `loss_schedules`.
        targets: None for no class in particular, a number n for n other classes in turn,
            `"random"`, `"least-likely"`, or the classes themselves, `[B]`. Any wrong answer counts
            as a success.
        restarts: Starts, in every round of targets.
        eot_loss: Draws over which the loss and its gradient are averaged: a count, or
            `"adaptive(error=0.06,most=20)"`; 1 where the victim draws nothing fresh. It multiplies
            with the victim's own `eot`, which averages logits.
        keep: Points per image among which the selection draws choose.
        select: Selection draws; 1 on a deterministic victim.
        temperature: Divides the logits before the loss, which would saturate where they are large.
        target_order: `"logit"` for the likeliest targets first, `"malt"` for those of the nearest
            boundaries, see `malt_order`.
        start: Where the first start begins, in attacks that `take_start`: images within the threat,
            `[B, ...]`, or what the same attack makes of another victim, or of the variant of this
            one with a noise policy such as `"mean"`, or a gradient mode. In a suite also `"worst"`
            and `"checkpoint"`. The attack's own choice if None.
        mix: More gradient modes; every step adds their gradients, each over its mean size, to that
            of the victim's own mode (after MDSE, arXiv 2209.03358, whose weights are learned).

    Raises:
        InputError: If an option has a wrong value.
    """

    loss: str = "ce"
    targets: int | str | Tensor | None = None
    restarts: int = 1
    eot_loss: int | str | FixedDraws | AdaptiveDraws = 1
    keep: int = 4
    select: int = 10
    temperature: float = 1.0
    target_order: str = "logit"
    mix: list[str] | tuple[str, ...] = ()
    start: Victim | Tensor | str | None = None
    takes_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)
        for f in fields(self):
            if f.type in ("float", "float | None") and getattr(self, f.name) is not None:
                _check_number(f.name, getattr(self, f.name))
        for name in ("restarts", "keep", "select"):
            whole(getattr(self, name), name, 1)
        if self.loss not in LOSSES:
            raise unknown("loss", str(self.loss), LOSSES)
        if self.target_order not in TARGET_ORDERS:
            raise unknown("order of targets", self.target_order, TARGET_ORDERS)
        for mode in self.mix:
            parse_mode(mode)
        if isinstance(self.targets, str):
            if self.targets not in TARGET_RULES:
                raise unknown("choice of targets", self.targets, TARGET_RULES)
        elif self.targets is not None and not isinstance(self.targets, Tensor):
            whole(self.targets, "targets", 1)
        parse_draws(self.eot_loss)
        if self.start is not None and not self.takes_start:
            raise InputError(
                f"{self.name} has starts of its own and takes no other: leave start out"
            )
        if isinstance(self.start, str) and self.start not in (WORST, SOURCE, *POLICIES):
            parse_mode(self.start)

    def run(self, problem: Problem) -> None:
        """The iteration from one start; whatever `problem` evaluates is a candidate."""
        raise TypeError(f"{type(self).__name__} does not say what it does from one start")

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        victim, images, labels, ids = inputs[:4]
        if not len(images):
            return images.clone(), torch.zeros_like(labels, dtype=torch.bool)
        if self.loss in STEPWISE:
            victim = victim.replace(output="steps", cost=victim.cost)
            inputs = inputs._replace(victim=victim)
        fresh = victim.stochastic and victim.noise == "fresh"
        draws = parse_draws(self.eot_loss) if fresh else FixedDraws(1)
        select = self.select if victim.stochastic else 1
        clean = None
        if self.targets is not None or self.loss in SCHEDULES:
            clean = torch.stack(fresh_logits(victim, images, ids, select, "clean")).mean(0)
        rounds = self._rounds(inputs, clean)
        mixed = tuple(victim.replace(gradient=mode, cost=victim.cost) for mode in self.mix)
        given = self._given(inputs)
        candidates = Candidates(images, self.keep)
        for start in range(len(rounds) * self.restarts):
            rows = torch.arange(len(images), device=images.device)
            if not victim.stochastic:
                rows = rows[~candidates.misclassified]
            if not len(rows):
                break
            targets = rounds[start // self.restarts]
            aims = None if targets is None else targets[rows]
            goal = Goal(self.loss, labels[rows], aims, self.temperature)
            for variant in (victim, *mixed):
                variant.statistics.restart()
            keep = partial(candidates.offer, rows)
            before = clean[rows] if clean is not None and self.loss in SCHEDULES else None
            run = Run(getattr(self, "steps", 1), before, mixed)
            if given is not None and start == 0:
                run = run._replace(given=given[rows])
            self.run(Problem(inputs.subset(rows), start, goal, draws, keep, run))
        return candidates.choose(victim, labels, ids, select)

    def _rounds(self, inputs: AttackInputs, clean: Tensor | None) -> list[Tensor | None]:
        """The classes that each round aims at, `[B]`, or None for none in particular.

        Args:
            inputs: What is attacked.
            clean: Logits without an attack, `[B, K]`.
        """
        if self.targets is None or clean is None:
            return [None]
        victim, images, labels, ids = inputs[:4]
        ordered = self.target_order == "malt" and isinstance(self.targets, int)
        others = malt_order(victim, images, labels, inputs.norm, ids) if ordered else None
        return [*choose_targets(self.targets, clean, labels, inputs.rng, others)]

    def _given(self, inputs: AttackInputs) -> Tensor | None:
        """Where the first start begins, `[B, ...]`; None if the attack chooses."""
        start, victim, images = self.start, inputs.victim, inputs.images
        if start is None or isinstance(start, Tensor):
            return None if start is None else checked_start(start, images)
        if start in (WORST, SOURCE):
            raise InputError(f"start='{start}' is for rows of suites; give images or a victim")
        there = replace(self, start=None)
        _, _, labels, ids, eps, norm, seed = inputs
        other = other_victim(start, victim)
        return there.within(other, images, labels, eps, norm, seed, ids).images

    @property
    def least_classes(self) -> int:
        """Fewest classes for which the loss is defined."""
        return least_classes_of(self.loss, self.targets is not None)

    def shared_options(self) -> dict[str, Any]:
        """The options that all attacks of this kind share, by name."""
        return {f.name: getattr(self, f.name) for f in fields(GradientAttack)}

    def settings(self) -> dict[str, Any]:
        """The attack's own options that have a value, then shared ones that are not the usual."""
        usual = {f.name: f.default for f in fields(GradientAttack)}
        values = super().settings()
        own = {name: value for name, value in values.items() if name not in usual}
        shared = {name: value for name, value in values.items() if name in usual}
        if isinstance(self.targets, Tensor):
            shared["targets"] = "given"
        if isinstance(self.start, Tensor | Victim):
            shared["start"] = "given"
        return own | {name: value for name, value in shared.items() if value != usual[name]}


@dataclass(frozen=True, kw_only=True)
class IterativeAttack(GradientAttack):
    """Base of attacks that take a number of steps.

    Attributes:
        steps: Gradients per start.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.steps, "steps", 1)


def other_victim(other: Victim | str, victim: Victim) -> Victim:
    """The victim that is given, or the variant of another with a noise policy or gradient mode."""
    if not isinstance(other, str):
        return other
    changed = {"noise" if other in POLICIES else "gradient": other}
    return victim.replace(**changed, cost=victim.cost)


def checked_start(start: Tensor, images: Tensor) -> Tensor:
    """Points to start from, where the images `[B, ...]` are.

    Raises:
        InputError: If they have another shape.
    """
    if start.shape != images.shape:
        raise InputError(
            f"start must have the shape of the images {tuple(images.shape)}, "
            f"got {tuple(start.shape)}"
        )
    return start.to(images)


def _check_number(name: str, value: Any) -> None:
    """Refuses what is no finite number, and steps that lead nowhere or downhill."""
    if not number(value, name) > 0 and name in POSITIVE:
        raise InputError(f"{name} must be a positive number, got {value!r}")
    if name in SHARES and not 0 < value <= 1:
        raise InputError(f"{name} must be a share above 0 and at most 1, got {value!r}")
    if name in FACTORS and value < 0:
        raise InputError(f"{name} must be at least 0, got {value!r}")
