"""What every attack is: a frozen dataclass of its options, called on a victim and images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
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
from robust_snn.attacks.candidates import Candidates
from robust_snn.attacks.eot_draws import AdaptiveDraws, FixedDraws, parse_draws
from robust_snn.attacks.loss_schedules import SCHEDULES
from robust_snn.attacks.malt_targets import malt_order
from robust_snn.attacks.problem import AttackInputs, Problem, Run
from robust_snn.attacks.threat_radius import NORMS, checked_radius
from robust_snn.gradients import parse_mode
from robust_snn.kernels import derive_seed
from robust_snn.neurons.noise_source import POLICIES
from robust_snn.utils.argument_types import check_fields, checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of, evaluating
from robust_snn.utils.plain_context import plain_context
from robust_snn.utils.text_form import call_text
from robust_snn.utils.values import number, whole
from robust_snn.victim import Victim
from robust_snn.victim_inputs import check_victim, checked_inputs
from robust_snn.victim_scoring import fresh_logits

# starts that suites fill in: the worst version of every image so far, and what the same attack
# makes of the network of --source-checkpoint
WORST, SOURCE = "worst", "checkpoint"
POSITIVE = ("alpha", "lr", "temperature")  # of all attacks that have them
SHARES = ("rho", "gamma")
FACTORS = ("decay",)  # may be 0


@dataclass(frozen=True)
class Adversarial:
    """What an attack made and what it claims.

    Attributes:
        images: The hardest of the images it evaluated, within the threat model, `[B, C, H, W]`.
        success: The images that most of the attack's own selection draws misclassify, bool `[B]`.
            It is no measurement: score the images on fresh noise, as `robust_snn.evaluate` does.
    """

    images: Tensor
    success: Tensor


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Base of all attacks; a subclass adds its options as fields and says how to `craft`.

    Its text form names it and its settings, such as `pgd(steps=20,random_start=true)`.

    Attributes:
        name: Its name in suites.
        norms: The norms of the threats that it knows; the first is the default.
        least_images: Fewest images that it attacks at once.
    """

    name: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")
    least_images: ClassVar[int] = 1

    @checked_types
    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        norm: str | None = None,
        seed: int = 0,
        ids: Tensor | None = None,
    ) -> Adversarial:
        """Attacks images; the victim and the global generators stay as they were.

        Args:
            victim: What to attack.
            images: `[B, C, H, W]` in [0, 1], or event frames `[B, T, C, H, W]`.
            labels: `[B]`.
            eps: Radius of the threat.
            norm: Its norm, one of `norms`; the first of them if left out.
            seed: Seed of all noise and random numbers.
            ids: Index of each image in the attacked set, `[B]`; positions in the batch if left out.
                Random numbers depend on it, so without noise a split into batches changes nothing.

        Raises:
            InputError: If the attack cannot run on these images or under this threat.
        """
        norm = self.norms[0] if norm is None else norm
        self.check_norm(norm)
        return self.within(
            victim, images, labels, checked_radius(eps, norm), norm, whole(seed, "seed"), ids
        )

    def within(
        self,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        eps: float,
        norm: str,
        seed: int = 0,
        ids: Tensor | None = None,
    ) -> Adversarial:
        """The same for a radius that was computed, and may be one that nobody would ask for."""
        with attack_variant(victim, seed) as variant:
            x, y, ids = on_device(variant, images, labels, ids)
            self.check_inputs(images, eps, norm)
            if 0 < len(images) < self.least_images:
                raise InputError(
                    f"{self.name} needs {self.least_images} images at once, got {len(images)}: "
                    "what is put on one is made on others"
                )
            made, success = self.craft(AttackInputs(variant, x, y, ids, eps, norm, seed))
        return Adversarial(made.to(images.device), success.to(images.device))

    @abstractmethod
    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        """The adversarial images `[B, ...]`, and whether they are misclassified, bool `[B]`."""

    def check_norm(self, norm: str) -> None:
        """Refuses the norm of a threat that the attack does not know.

        Raises:
            InputError: Naming both.
        """
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        if norm not in self.norms:
            plural = "s" if len(self.norms) > 1 else ""
            known = " and ".join(self.norms)
            raise InputError(f"{self.name} knows the norm{plural} {known}, got {norm}")

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        """Refuses images and threats that the attack cannot handle, before anything runs.

        Raises:
            InputError: Saying what is wrong.
        """
        self.check_norm(norm)

    @property
    def least_classes(self) -> int:
        """Fewest classes with which the attack can run."""
        return 2

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Names of the options, as suites write them."""
        return tuple(f.name for f in fields(cls))

    def settings(self) -> dict[str, Any]:
        """The options that have a value, by name."""
        values = {name: getattr(self, name) for name in self.option_names()}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return call_text(self.name, self.settings())


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
            check_positive(name, getattr(self, name))
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
            check_positive("targets", self.targets)
        parse_draws(self.eot_loss)
        if self.start is not None and not self.takes_start:
            raise InputError(f"{self.name} has starts of its own and takes no other")
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
        rounds, clean = list[Tensor | None]([None]), None
        if self.targets is not None or self.loss in SCHEDULES:
            clean = torch.stack(fresh_logits(victim, images, ids, select, "clean")).mean(0)
        if self.targets is not None and clean is not None:
            ordered = self.target_order == "malt" and isinstance(self.targets, int)
            others = malt_order(victim, images, labels, inputs.norm) if ordered else None
            rounds = [*choose_targets(self.targets, clean, labels, inputs.rng, others)]
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

    def _given(self, inputs: AttackInputs) -> Tensor | None:
        """Where the first start begins, `[B, ...]`; None if the attack chooses."""
        start, victim, images = self.start, inputs.victim, inputs.images
        if start is None or isinstance(start, Tensor):
            return None if start is None else checked_start(start, images)
        if start in (WORST, SOURCE):
            raise InputError(f"start='{start}' is for rows of suites; give images or a victim")
        if isinstance(start, str):
            changed = {"noise" if start in POLICIES else "gradient": start}
            start = victim.replace(**changed, cost=victim.cost)
        there = replace(self, start=None)
        _, _, labels, ids, eps, norm, seed = inputs
        return there.within(start, images, labels, eps, norm, seed, ids).images

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
        check_positive("steps", self.steps)


@contextmanager
def attack_variant(victim: Victim, seed: int) -> Iterator[Victim]:
    """A variant of the victim in eval mode and a plain context; its passes count as the victim's.

    Its noise depends on `seed` alone, and the statistics of its gradient mode are its own.
    """
    check_victim(victim)
    with plain_context(), evaluating(victim.net):
        noise = derive_seed(seed, "noise")
        yield victim.replace(seed=noise, output="logits", cost=victim.cost)


def on_device(
    victim: Victim, images: Tensor, labels: Tensor, ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and ids where the network is, as float32 and int64, once they are checked.

    Raises:
        InputError: If they do not suit the victim, or are not equally many.
    """
    images, labels, _ = checked_inputs(victim, images, labels)
    if ids is None:
        ids = torch.arange(len(images), device="cpu")
    if ids.shape != labels.shape:
        raise InputError(f"{len(images)} images need as many ids, got {tuple(ids.shape)}")
    device = device_of(victim, images)
    x = images.detach().to(device, torch.float32).clone(memory_format=torch.contiguous_format)
    # copies, for tensors of inference mode cannot be saved for a backward pass
    return x, labels.to(device).clone(), ids.to(device).long().clone()


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


def check_positive(name: str, value: Any) -> None:
    """Refuses what is not a whole number of at least 1.

    Raises:
        InputError: Naming the option.
    """
    whole(value, name, 1)
