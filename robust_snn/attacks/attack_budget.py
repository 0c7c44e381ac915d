"""Attack budgets: from a ranking of gradient modes to a list of attacks, cheap ones first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from robust_snn.attacks.attack_losses import STEPWISE
from robust_snn.attacks.mode_ranking import FEW_DRAWS, ModeTrial
from robust_snn.attacks.registry import ATTACKS, make_attack
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import unknown


@dataclass(frozen=True)
class BudgetedAttack:
    """One attack of a budget, in the fields of a suite's attack (implementation `robust_snn`)."""

    name: str
    attack: str
    gradient: str
    steps: int
    restarts: int = 1
    noise: str = "fresh"
    options: dict[str, Any] = field(default_factory=dict)


# attack, loss, its mode (place in the ranking, or name of the mode), steps, restarts. ASSG is named
# because its running statistics take more steps to settle than a trial has.
MIXED = "mixed"  # instead of a place: the first mode of the ranking with the next two added
_START = (("apgd", "ce", 0, 20, 1), ("sapgd", "ce", "assg", 100, 1))
_PLACES = ("best", "second", "third", "fourth")  # of the ranking, as names of rows call them
BUDGETS: dict[str, tuple[tuple[str, str, int | str, int, int], ...]] = {
    "small": (*_START, ("sapgd", "margin", 0, 60, 1)),
    "medium": (
        *_START,
        ("sapgd", "margin", 0, 100, 1),
        ("apgd", "ce", 1, 100, 1),
        ("sapgd", "ce", 2, 100, 1),
        ("sapgd", "pm", MIXED, 100, 1),
        ("apgd", "tet", 0, 100, 1),
        ("apgd-t", "margin", 0, 50, 1),
        ("sapgd", "margin", "assg", 200, 3),
    ),
    "large": (
        *_START,
        ("sapgd", "margin", 0, 100, 1),
        ("apgd", "ce", 1, 100, 1),
        ("sapgd", "ce", 2, 100, 1),
        ("sapgd", "ce", "hart", 100, 1),
        ("sapgd", "pm", MIXED, 100, 1),
        ("sapgd", "md", 0, 100, 2),
        ("apgd", "dlr", 0, 100, 1),
        ("apgd", "tet", 0, 100, 1),
        ("sapgd", "margin", 3, 100, 1),
        ("apgd-t", "dlr", 1, 100, 1),
        ("apgd-t", "margin", "assg", 100, 1),
        ("sapgd", "ce", 0, 300, 3),
        ("sapgd", "margin", "assg", 500, 5),
    ),
}
TARGET_COUNTS = {"small": 0, "medium": 3, "large": 9}


def attacks_of_budget(
    budget: str,
    trials: tuple[ModeTrial, ...],
    *,
    stochastic: bool,
    classes: int,
    stepwise: bool = True,
    not_taken: Collection[str] = (),
    temperature: float = 1.0,
    norm: str = "Linf",
) -> tuple[BudgetedAttack, ...]:
    """The attacks of a budget, cheap ones first; each is for images not yet broken.

    A noisy victim is first attacked through its mean field, which costs no draws. Its gradients
    then average few draws: for the same price, more steps do better than more draws per step. In
    SA-PGD, whose momentum averages over steps, two draws did better than twenty.

    Args:
        budget: `"small"`, `"medium"` or `"large"`.
        trials: The ranking of `rank_modes`.
        stochastic: Whether the victim is noisy.
        classes: Number of classes; decides which losses are defined.
        stepwise: Whether the victim shows the logits of every step, which TET's loss needs.
        not_taken: Names of the gradient modes that the victim does not take. The first of the
            ranking stands in for them.
        temperature: Divides the logits before every loss; see `fitting_temperature`.
        norm: Norm of the threat. APGD stands in for attacks that do not know it.

    Raises:
        InputError: If the budget is not known.
    """
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    scaled = {} if temperature == 1 else {"temperature": temperature}
    rows: list[BudgetedAttack] = []
    for usual, loss, place, steps, restarts in BUDGETS[budget]:
        attack = _knowing(norm, usual)
        options: dict[str, Any] = {"loss": loss, **scaled}
        if stochastic:
            options["eot_loss"] = 2 if attack == "sapgd" else FEW_DRAWS
        if attack == "apgd-t":
            options |= {"targets": TARGET_COUNTS[budget], "target_order": "malt"}
        if place == MIXED:
            options["mix"] = [trial.gradient for trial in trials[1:3]]
        mode = _mode_at(trials, 0 if place == MIXED or place in not_taken else place)
        enough_classes = classes >= make_attack(attack, options).least_classes
        if mode is None or not enough_classes or (loss in STEPWISE and not stepwise):
            continue
        if stochastic and not rows:
            attack_of_mean = _knowing(norm, "sapgd")
            rows.append(BudgetedAttack("mean-field", attack_of_mean, mode, 60, 1, "mean", scaled))
        # a name gives a row its random numbers, so it is the same in every budget
        name = f"{attack}-{loss}-{_PLACES[place] if isinstance(place, int) else place}"
        row = BudgetedAttack(name, attack, mode, steps, restarts, "fresh", options)
        if name not in {other.name for other in rows}:  # as where APGD stands in
            rows.append(row)
    return tuple(rows)


def _knowing(norm: str, attack: str) -> str:
    """The attack if it knows the norm, else APGD."""
    return attack if norm in ATTACKS[attack].norms else "apgd"


def _mode_at(trials: tuple[ModeTrial, ...], place: int | str) -> str | None:
    """The mode at a place of the ranking, or the best with a name; None if there is none."""
    if isinstance(place, int):
        return trials[place].gradient if place < len(trials) else None
    named = (t.gradient for t in trials if parse_mode(t.gradient).name == place)
    return next(named, None)
