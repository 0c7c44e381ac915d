"""How many passes a row of a suite takes of an image, before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robust_snn.eval.protocol.implementation import OWN
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.suite import AttackSpec

USUAL_STEPS = 100  # what AutoAttack takes where a row does not say
ADAPTIVE_DRAWS = 4  # that an attack which chooses their number takes, about
ENDED_EARLY = 0.5  # of the draws of a query, where our Square asks many
SEARCHED = 25  # queries of a step of HopSkipJump for its binary search and its length


def is_blind(row: AttackSpec) -> bool:
    """Whether a row needs no gradient."""
    return implementation(row).blind(row)


def row_passes(row: AttackSpec) -> int:
    """Gradients, or queries, that a row takes of an image that it does not break, about."""
    if implementation(row).given is not None or implementation(row).judge is not None:
        return 1
    if row.implementation == "art" and row.attack in QUERIES:
        return int(QUERIES[row.attack](row.steps, row.options) * row.eot)
    inner = row.options.get("eot_loss", row.options.get("eot_iter", 1))
    draws = inner if isinstance(inner, int) else ADAPTIVE_DRAWS
    targets = row.options.get("targets", 9 if row.attack.endswith("-t") else 1)
    rounds = targets if isinstance(targets, int) else 1  # a rule's name has one class per image
    mixed = 1 + len(row.options.get("mix", ()))
    steps = 1 if "fgsm" in row.attack.lower() else implementation(row).steps(row) or USUAL_STEPS
    ended = ENDED_EARLY if (row.implementation, row.attack) == (OWN, "square") else 1
    share = ended if row.eot > 1 else 1
    return int((steps + 1) * (row.restarts or 1) * rounds * mixed * draws * row.eot * share)


def _hop_skip_jump(steps: int | None, options: dict[str, Any]) -> float:
    first, most = options.get("init_eval", 100), options.get("max_eval", 10_000)
    return sum(min(first * i**0.5, most) + SEARCHED for i in range(1, (steps or 50) + 1))


# of ART's attacks on decisions, from their own steps and options
QUERIES: dict[str, Callable[[int | None, dict[str, Any]], float]] = {
    "HopSkipJump": _hop_skip_jump,
    "SignOPTAttack": lambda steps, options: options.get("query_limit", 20_000),
    "BoundaryAttack": lambda steps, options: 2 * (steps or 5000) * options.get("sample_size", 20),
}
