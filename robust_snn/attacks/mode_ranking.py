"""Gradient modes ranked by how well short attacks with each of them do on a network."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.apgd import APGD
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.mode_reach import ModeChoice, choose_modes
from robust_snn.attacks.problem import margin_gradient
from robust_snn.gradients import BPTT, MODES, SURROGATES, GradientMode, parse_mode
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

_log = logging.getLogger("robust_snn")
FEW_DRAWS = "adaptive(error=0.2,most=4)"  # of a gradient: steps are worth more
SCORE_DRAWS = 10  # that score a point of a noisy victim
FEW_IMAGES = 16  # on which a search for the best sharpness follows chance
USUAL, FITTING = (0.05, 100.0), 5.0  # margins with which losses work, and one with which they do
VANISHED, EXPLODED = 1e-30, 1e30  # of a gradient's largest entry, as float32 can hardly hold it
OCTAVES = 3  # to either side of its default, within which a sharpness is searched


@dataclass(frozen=True)
class ModeTrial:
    """The outcome of a short attack with one gradient mode.

    Attributes:
        gradient: The mode.
        soft_accuracy: A smooth stand-in for `accuracy`: the mean sigmoid of the scaled margins.
        accuracy: Robust accuracy on fresh draws.
        backwards: Gradient evaluations per image.
        replaced: Share of the gradients that were zero or not finite; random signs stood in.
        flaw: What is wrong with the gradient at the clean images, see `gradient_flaw`; "" if
            nothing is.
        per_image: The soft accuracy of every image, `[B]`.
    """

    gradient: str
    soft_accuracy: float
    accuracy: float
    backwards: float
    per_image: Tensor = field(repr=False, compare=False)
    replaced: float = 0.0
    flaw: str = ""

    def __str__(self) -> str:
        soft = f"soft accuracy {self.soft_accuracy:.3f}"
        return f"{self.gradient}: {soft}, accuracy {self.accuracy:.3f}"


@dataclass(frozen=True)
class RankingEffort:
    """How much a ranking of gradient modes costs.

    Attributes:
        steps: Gradients per trial.
        searched: Number of modes whose sharpness is searched.
        evaluations: Trials per search.
    """

    steps: int = 10
    searched: int = 2
    evaluations: int = 6

    @classmethod
    def on(cls, images: int) -> RankingEffort:
        """The effort that so many images can tell: on few of them, fewer trials."""
        return cls() if images >= FEW_IMAGES else cls(searched=1, evaluations=4)


def rank_modes(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    modes: Iterable[str | GradientMode] | None = None,
    effort: RankingEffort = RankingEffort(),
    temperature: float = 1.0,
) -> tuple[ModeTrial, ...]:
    """Ranks gradient modes by the accuracy that a short APGD with each reaches.

    The sharpness of the best modes is searched by golden section. The ranking is greedy: the first
    mode reaches the lowest soft accuracy alone, each next one together with those before it. The
    cost counts as the victim's. Modes and surrogates that are registered later take part. Those
    that the network refuses, or that reach none of its neurons, do not: see `choose_modes`.

    Args:
        victim: What to attack.
        images: Images that are not scored, `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"`, `"L2"` or `"L1"`.
        seed: Seed of all noise and random numbers.
        modes: Modes to try; all registered ones, BPTT with every surrogate, if left out.
        effort: Steps and trials.
        temperature: Divides the logits before the loss; see `fitting_temperature`.

    Raises:
        InputError: If a mode is not known, the network takes none, or there are no images.
    """
    if not len(images):
        raise InputError("a ranking of gradient modes needs images")
    chosen, left_out = modes_to_try(victim, images, modes)
    for name, why in left_out.items():
        _log.info("gradient mode %s is not tried: %s", name, why)
    if not chosen:
        raise InputError(f"no gradient mode can be used: {next(iter(left_out.values()))}")
    scale = typical_margin(victim, images, labels, seed) / 4  # a change that matters

    def attempt(mode: GradientMode) -> ModeTrial:
        variant, before = victim.replace(gradient=mode, cost=victim.cost), replace(victim.cost)
        few: dict[str, Any] = {"eot_loss": FEW_DRAWS, "keep": 2, "select": 5}
        attack = APGD(steps=effort.steps, temperature=temperature, **few)
        crafted = attack(variant, images, labels, eps=eps, norm=norm, seed=seed).images
        margins = _margins(victim, crafted, labels, seed)
        soft = torch.sigmoid(margins / scale).mean(0)
        accuracy = float((margins > 0).double().mean())
        spent = victim.cost.backwards - before.backwards, victim.cost.replaced - before.replaced
        return ModeTrial(
            gradient=str(mode),
            soft_accuracy=float(soft.mean()),
            accuracy=accuracy,
            backwards=spent[0] / len(images),
            per_image=soft.cpu(),
            replaced=spent[1] / (len(images) * effort.steps),
            flaw=gradient_flaw(variant, images, labels, seed),
        )

    trials = {str(mode): attempt(mode) for mode in chosen}
    ranked = sorted(trials.values(), key=lambda trial: trial.soft_accuracy)
    tunable = [p for t in ranked if (p := tunable_parameter(parse_mode(t.gradient)))]
    for default, with_value in tunable[: effort.searched]:

        def tried(
            octave: float, default: float = default, with_value: WithValue = with_value
        ) -> float:
            try:
                mode = with_value(float(f"{default * 2**octave:.2g}"))
            except InputError:  # beyond what the mode allows
                return math.inf
            if str(mode) not in trials:
                trials[str(mode)] = attempt(mode)
            return trials[str(mode)].soft_accuracy

        golden_section(tried, -OCTAVES, OCTAVES, effort.evaluations)
    return _greedy(list(trials.values()))


def modes_to_try(
    victim: Victim, images: Tensor, modes: Iterable[str | GradientMode] | None = None
) -> ModeChoice:
    """The modes that a ranking tries, and why it leaves others out; see `rank_modes`.

    Raises:
        InputError: If a mode is not known.
    """
    asked = registered_modes() if modes is None else [parse_mode(mode) for mode in modes]
    return choose_modes(victim, images, asked)


def registered_modes() -> list[GradientMode]:
    """Every registered mode with its defaults, and BPTT with one surrogate of every shape."""
    shapes: dict[str, GradientMode] = {}
    for surrogate in SURROGATES.values():
        shapes.setdefault(surrogate().kernel().family, BPTT(surrogate=surrogate()))
    modes = [mode() for mode in MODES.values() if mode is not BPTT and not mode.other_forward]
    return [*shapes.values(), *modes]


def golden_section(
    function: Callable[[float], float], low: float, high: float, evaluations: int
) -> tuple[float, float]:
    """The lowest of some values of a function on an interval, where golden section looks for it.

    Returns:
        The argument and the value.
    """
    ratio = (math.sqrt(5) - 1) / 2
    seen: list[tuple[float, float]] = []

    def at(x: float) -> float:
        seen.append((function(x), x))
        return seen[-1][0]

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = at(left), at(right)
    while len(seen) < evaluations:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = at(right)
    value, x = min(seen)
    return x, value


WithValue = Callable[[float], GradientMode]


def tunable_parameter(mode: GradientMode) -> tuple[float, WithValue] | None:
    """The first number that shapes a mode or its surrogate, and what gives it another value.

    A mode that accumulates has none: a trial is too short for the statistics that it steers.
    """
    if mode.accumulates:
        return None
    surrogate = getattr(mode, "surrogate", None)
    shaped: Any = mode if surrogate is None else surrogate
    name = next((f.name for f in fields(shaped) if type(getattr(shaped, f.name)) is float), None)
    if name is None:
        return None

    def with_value(value: float) -> GradientMode:
        changed = replace(shaped, **{name: value})
        return changed if surrogate is None else replace(mode, surrogate=changed)  # type: ignore[call-arg]

    return getattr(shaped, name), with_value


def _greedy(trials: list[ModeTrial]) -> tuple[ModeTrial, ...]:
    """The trials in an order in which each adds most to those before it."""

    def ordered() -> Iterator[ModeTrial]:
        worst = torch.ones_like(trials[0].per_image)
        while trials:
            best = min(
                trials,
                key=lambda t: (float(torch.minimum(worst, t.per_image).mean()), t.soft_accuracy),
            )
            worst = torch.minimum(worst, best.per_image)
            trials.remove(best)
            yield best

    return tuple(ordered())


def _margins(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Logit of the label minus the best other under fresh draws, `[draws, B]`."""
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        draws = SCORE_DRAWS if variant.stochastic else 1
        return torch.stack([-margin(z, y) for z in fresh_logits(variant, x, ids, draws, "probe")])


def typical_margin(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> float:
    """The median clean margin in absolute value; above 0."""
    median = float(_margins(victim, images, labels, seed).abs().median())
    return max(median, torch.finfo(torch.float32).tiny)


def fitting_temperature(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> float:
    """What logits are to be divided by so that no loss saturates; 1 where they are of usual size.

    With margins far above ten, the gradient of the cross-entropy is zero in float32; with tiny
    ones, it no longer prefers the class that is near.
    """
    margin = typical_margin(victim, images, labels, seed)
    usual = margin < VANISHED or USUAL[0] <= margin <= USUAL[1]  # ties cannot be made larger
    return 1.0 if usual else margin / FITTING


def gradient_flaw(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> str:
    """What is wrong with the gradient of the margin at some images, if something is."""
    with attack_variant(victim, seed) as variant:
        x, y, _ = on_device(variant, images, labels, None)
        flat = margin_gradient(variant, x, y).flatten(1)
    largest = flat.abs().amax(1)
    infinite, zero = ~largest.isfinite(), largest < VANISHED
    for what, where in (("explodes", infinite | (largest > EXPLODED)), ("vanishes", zero)):
        if where.any():
            return f"{what} on {float(where.double().mean()):.0%} of images"
    alike = len(flat) > 1 and torch.equal(flat, flat[:1].expand_as(flat))
    return "is the same for all images" if alike else ""
