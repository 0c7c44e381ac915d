"""Which gradient modes work on a network, and the list of attacks that follows from it.

`probe` runs a short attack with every registered mode on a few images that are not scored, searches
the sharpness of the best, and ranks them; `plan` turns the ranking into attacks, cheap ones first.
Modes and surrogates registered later join by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.apgd import APGD
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.losses import STEPWISE, least_classes_of, margin
from robust_snn.gradients import BPTT, MODES, SURROGATES, GradientMode, parse_mode
from robust_snn.utils.errors import InputError, unknown
from robust_snn.victim import Victim
from robust_snn.victim_scoring import fresh_logits

EOT = "adaptive(error=0.2)"  # few draws: steps are worth more
DRAWS = 10  # that score a point of a noisy victim
OCTAVES = 3  # to either side of its default, within which a sharpness is searched


@dataclass(frozen=True)
class Trial:
    """What a short attack with one gradient mode left.

    Attributes:
        gradient: The mode.
        held: How well the images held, between 0 and 1: a smooth stand-in for `accuracy`.
        accuracy: Robust accuracy on fresh draws.
        backwards: Gradient evaluations per image.
        images: `held` of every image, `[B]`.
    """

    gradient: str
    held: float
    accuracy: float
    backwards: float
    images: Tensor = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.gradient}: held {self.held:.3f}, accuracy {self.accuracy:.3f}"


@dataclass(frozen=True)
class Row:
    """One attack of a plan, in the fields of a suite's attack (implementation `robust_snn`)."""

    name: str
    attack: str
    gradient: str
    steps: int
    restarts: int = 1
    noise: str = "fresh"
    options: dict[str, Any] = field(default_factory=dict)


def probe(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 10,
    modes: Iterable[str | GradientMode] | None = None,
    searched: int = 2,
    evaluations: int = 6,
) -> tuple[Trial, ...]:
    """Ranks gradient modes by what a short APGD with each leaves of some images.

    The sharpness of the modes that leave least is searched by golden section. The ranking is
    greedy: the first mode leaves least alone, each next one together with those before it. The cost
    is that of `steps` gradients per trial and image, and counts as the victim's.

    Args:
        victim: What to attack.
        images: Images that are not scored, `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per trial.
        modes: Modes to try; all registered ones, BPTT with every surrogate, if left out.
        searched: Number of modes whose sharpness is searched.
        evaluations: Trials per search.

    Raises:
        InputError: If a mode is not known or there are no images.
    """
    if not len(images):
        raise InputError("the probe needs images")
    scale = _typical_margin(victim, images, labels, seed)

    def attempt(mode: GradientMode) -> Trial:
        view, before = victim.replace(gradient=mode, cost=victim.cost), victim.cost.backwards
        attack = APGD(steps=steps, eot_loss=EOT)
        found = attack(view, images, labels, eps=eps, norm=norm, seed=seed)
        margins = _margins(victim, found.images, labels, seed)
        held = torch.sigmoid(margins / scale).mean(0)
        accuracy = float((margins > 0).double().mean())
        backwards = (victim.cost.backwards - before) / len(images)
        return Trial(str(mode), float(held.mean()), accuracy, backwards, held.cpu())

    chosen = registered_modes() if modes is None else [parse_mode(mode) for mode in modes]
    trials = {str(mode): attempt(mode) for mode in chosen}
    dials = [d for t in sorted(trials.values(), key=_held) if (d := _dial(parse_mode(t.gradient)))]
    for default, turn in dials[:searched]:

        def tried(octave: float, default: float = default, turn: Turn = turn) -> float:
            try:
                mode = turn(float(f"{default * 2**octave:.2g}"))
            except InputError:  # beyond what the mode allows
                return math.inf
            if str(mode) not in trials:
                trials[str(mode)] = attempt(mode)
            return trials[str(mode)].held

        golden_section(tried, -OCTAVES, OCTAVES, evaluations)
    return _greedy(list(trials.values()))


def registered_modes() -> list[GradientMode]:
    """Every registered mode with its defaults, and BPTT with one surrogate of every shape."""
    shapes: dict[str, GradientMode] = {}
    for surrogate in SURROGATES.values():
        shapes.setdefault(surrogate().kernel().family, BPTT(surrogate=surrogate()))
    modes = [mode() for mode in MODES.values() if mode is not BPTT and not mode.other_forward]
    return [*shapes.values(), *modes]


# attack, loss, its mode (place in the ranking, or name of the mode), steps, restarts. ASSG is named
# because its running statistics take more steps to settle than a trial has.
_START = (("apgd", "ce", 0, 20, 1), ("sapgd", "ce", "assg", 100, 1))
BUDGETS: dict[str, tuple[tuple[str, str, int | str, int, int], ...]] = {
    "small": (*_START, ("sapgd", "margin", 0, 60, 1)),
    "medium": (
        *_START,
        ("sapgd", "margin", 0, 100, 1),
        ("apgd", "ce", 1, 100, 1),
        ("sapgd", "ce", 2, 100, 1),
        ("apgd", "tet", 0, 100, 1),
        ("apgd-t", "dlr", 0, 50, 1),
        ("sapgd", "margin", "assg", 100, 2),
    ),
    "large": (
        *_START,
        ("sapgd", "margin", 0, 100, 1),
        ("apgd", "ce", 1, 100, 1),
        ("sapgd", "ce", 2, 100, 1),
        ("sapgd", "ce", "hart", 100, 1),
        ("apgd", "dlr", 0, 100, 1),
        ("apgd", "tet", 0, 100, 1),
        ("sapgd", "margin", 3, 100, 1),
        ("apgd-t", "dlr", 1, 100, 1),
        ("apgd-t", "margin", "assg", 100, 1),
        ("sapgd", "ce", 0, 300, 3),
        ("sapgd", "margin", "assg", 500, 5),
    ),
}
TARGETS = {"small": 0, "medium": 3, "large": 9}


def plan(
    trials: tuple[Trial, ...], budget: str, *, stochastic: bool, classes: int, stepwise: bool = True
) -> tuple[Row, ...]:
    """The attacks of a budget, cheap ones first; each is for the images the ones before left.

    A noisy victim is first attacked through its mean field, which costs no draws. Its gradients
    then average few draws: for the same price, more steps do better than more draws per step.

    Args:
        trials: The ranking of `probe`.
        budget: `"small"`, `"medium"` or `"large"`; see `gradient_evaluations`.
        stochastic: Whether the victim is noisy.
        classes: Number of classes; decides which losses are defined.
        stepwise: Whether the victim shows the logits of every step, which TET's loss needs.

    Raises:
        InputError: If the budget is not known.
    """
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    draws = {"eot_loss": EOT} if stochastic else {}
    rows: list[Row] = []
    for number, (attack, loss, place, steps, restarts) in enumerate(BUDGETS[budget], 1):
        targeted = attack == "apgd-t"
        mode = _choose(trials, place)
        defined = classes >= least_classes_of(loss, targeted) and (stepwise or loss not in STEPWISE)
        if mode is None or not defined:
            continue
        options: dict[str, Any] = {"loss": loss, **draws}
        if targeted:
            options["targets"] = TARGETS[budget]
        if stochastic and not rows:
            rows.append(Row("0-mean-field", "sapgd", mode, 60, 1, "mean"))
        name = f"{number}-{attack}-{loss}"
        rows.append(Row(name, attack, mode, steps, restarts, "fresh", options))
    return tuple(rows)


def gradient_evaluations(rows: Iterable[Row]) -> int:
    """Gradients that the attacks take of an image that survives them all, draws not counted."""
    return sum(row.steps * row.restarts * row.options.get("targets", 1) for row in rows)


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


def _choose(trials: tuple[Trial, ...], place: int | str) -> str | None:
    """The mode at a place of the ranking, or the best with a name; None if there is none."""
    if isinstance(place, int):
        return trials[place].gradient if place < len(trials) else None
    named = (t.gradient for t in trials if parse_mode(t.gradient).name == place)
    return next(named, None)


Turn = Callable[[float], GradientMode]


def _dial(mode: GradientMode) -> tuple[float, Turn] | None:
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

    def turn(value: float) -> GradientMode:
        turned = replace(shaped, **{name: value})
        return turned if surrogate is None else replace(mode, surrogate=turned)  # type: ignore[call-arg]

    return getattr(shaped, name), turn


def _held(trial: Trial) -> float:
    return trial.held


def _greedy(trials: list[Trial]) -> tuple[Trial, ...]:
    def ordered() -> Iterator[Trial]:
        worst = torch.ones_like(trials[0].images)
        while trials:
            best = min(trials, key=lambda t: (float(torch.minimum(worst, t.images).mean()), t.held))
            worst = torch.minimum(worst, best.images)
            trials.remove(best)
            yield best

    return tuple(ordered())


def _margins(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Logit of the label minus the best other under fresh draws, `[draws, B]`."""
    with attack_variant(victim, seed) as view:
        x, y, ids = on_device(view, images, labels, None)
        draws = DRAWS if view.stochastic else 1
        return torch.stack([-margin(z, y) for z in fresh_logits(view, x, ids, draws, "probe")])


def _typical_margin(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> float:
    """A quarter of the median clean margin: what makes a difference to an answer."""
    return max(float(_margins(victim, images, labels, seed).abs().median()) / 4, 1e-6)
