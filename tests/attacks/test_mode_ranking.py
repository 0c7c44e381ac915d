"""The probe finds the modes that work, and the plan spends on them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from robust_snn import InputError
from robust_snn.attacks import ATTACKS, make_attack
from robust_snn.attacks.mode_ranking import (
    BUDGETS,
    Trial,
    golden_section,
    gradient_evaluations,
    plan,
    probe,
    registered_modes,
)
from robust_snn.gradients import MODES, parse_mode


def test_golden_section_finds_the_valley() -> None:
    calls: list[float] = []

    def valley(x: float) -> float:
        calls.append(x)
        return (x - 1.3) ** 2

    x, value = golden_section(valley, -3, 3, 12)
    assert abs(x - 1.3) < 0.05 and value == valley(x) and len(calls) == 13
    assert golden_section(lambda x: math.inf if x > 0 else -x, -3, 3, 8)[0] <= 0


def test_the_probe_tells_a_live_surrogate_from_a_dead_one(digits: Any) -> None:
    victim, images, labels = digits
    dead = "bptt(surrogate=triangle(gamma=0.01))"
    trials = probe(
        victim,
        images[:32],
        labels[:32],
        eps=0.1,
        steps=5,
        modes=[dead, "bptr", "bptt"],
        searched=1,
        evaluations=3,
    )
    by_name = {trial.gradient: trial for trial in trials}
    assert len(trials) == 6  # and three sharpnesses of the one that is best
    assert trials[0].held == min(trial.held for trial in trials)
    assert by_name[str(parse_mode(dead))].held == max(trial.held for trial in trials)
    assert all(trial.backwards == 5 and 0 <= trial.accuracy <= 1 for trial in trials)
    again = probe(victim, images[:32], labels[:32], eps=0.1, steps=5, modes=["bptr"], searched=0)
    assert again == (by_name["bptr"],)
    with pytest.raises(InputError, match="images"):
        probe(victim, images[:0], labels[:0], eps=0.1)


def test_the_ranking_covers_what_the_first_mode_misses(digits: Any) -> None:
    def trial(name: str, *held: float) -> Trial:
        images = torch.tensor(held)
        return Trial(name, float(images.mean()), 0.0, 1.0, images)

    from robust_snn.attacks.mode_ranking import _greedy

    best, alike, other = trial("a", 0.1, 0.1, 0.9), trial("b", 0.1, 0.2, 0.9), trial("c", 1, 1, 0.1)
    assert [t.gradient for t in _greedy([alike, other, best])] == ["a", "c", "b"]


def test_registered_modes_join_by_themselves() -> None:
    modes = registered_modes()
    names = {mode.name for mode in modes}
    assert names == set(MODES) - {"activation"}
    assert len({str(mode) for mode in modes}) == len(modes)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_plans_are_attacks_that_can_run(budget: str, stochastic: bool) -> None:
    held = torch.tensor([0.5])
    modes = ["bptt", "assg", "hart", "bptr"]
    trials = tuple(Trial(mode, 0.5, 0.5, 10.0, held) for mode in modes)
    rows = plan(trials, budget, stochastic=stochastic, classes=10)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        parse_mode(row.gradient)
        make_attack(row.attack, {"steps": row.steps, **row.options}).check_norm("Linf")
        assert row.attack in ATTACKS
        assert ("eot_loss" in row.options) == (stochastic and row.noise == "fresh")
    assert any("assg" in row.gradient for row in rows)
    for row in plan(trials, budget, stochastic=False, classes=3):
        assert make_attack(row.attack, row.options).least_classes <= 3
    assert len(plan(trials[:1], budget, stochastic=False, classes=10)) >= 2


def test_budgets_grow() -> None:
    trials = tuple(Trial(m, 0.5, 0.5, 1.0, torch.ones(1)) for m in ["bptt", "assg", "hart", "ste"])
    costs = [
        gradient_evaluations(plan(trials, budget, stochastic=False, classes=10))
        for budget in ("small", "medium", "large")
    ]
    assert costs[0] < 200 and costs[0] * 3 < costs[1] and costs[1] * 3 < costs[2]
    with pytest.raises(InputError, match="small"):
        plan(trials, "smal", stochastic=False, classes=10)
