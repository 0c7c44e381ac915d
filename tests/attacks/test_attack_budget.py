"""A budget spends on the modes of a ranking, on attacks that can run."""

from __future__ import annotations

import pytest
import torch

from robust_snn import InputError
from robust_snn.attacks import ATTACKS, make_attack
from robust_snn.attacks.attack_budget import BUDGETS, BudgetedAttack, attacks_of_budget
from robust_snn.attacks.mode_ranking import ModeTrial
from robust_snn.gradients import parse_mode


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_budgets_hold_attacks_that_can_run(budget: str, stochastic: bool) -> None:
    soft = torch.tensor([0.5])
    modes = ["bptt", "assg", "hart", "bptr"]
    trials = tuple(ModeTrial(mode, 0.5, 0.5, 10.0, soft) for mode in modes)
    rows = attacks_of_budget(budget, trials, stochastic=stochastic, classes=10)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        parse_mode(row.gradient)
        make_attack(row.attack, {"steps": row.steps, **row.options}).check_norm("Linf")
        assert row.attack in ATTACKS
        assert ("eot_loss" in row.options) == (stochastic and row.noise == "fresh")
    assert any("assg" in row.gradient for row in rows)
    for row in attacks_of_budget(budget, trials, stochastic=False, classes=3):
        assert make_attack(row.attack, row.options).least_classes <= 3
    assert len(attacks_of_budget(budget, trials[:1], stochastic=False, classes=10)) >= 2


def gradients(row: BudgetedAttack) -> int:
    """Gradients that an attack takes of an image that it does not break, draws not counted."""
    each = row.options.get("targets", 1) * (1 + len(row.options.get("mix", ())))
    return row.steps * row.restarts * each


def test_budgets_grow() -> None:
    trials = tuple(
        ModeTrial(m, 0.5, 0.5, 1.0, torch.ones(1)) for m in ["bptt", "assg", "hart", "ste"]
    )
    costs = [
        sum(map(gradients, attacks_of_budget(budget, trials, stochastic=False, classes=10)))
        for budget in ("small", "medium", "large")
    ]
    assert costs[0] < 200 and costs[0] * 3 < costs[1] and costs[1] * 3 < costs[2]
    with pytest.raises(InputError, match="small"):
        attacks_of_budget("smal", trials, stochastic=False, classes=10)
