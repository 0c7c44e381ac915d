"""The ranking finds the modes that work."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from robust_snn import InputError
from robust_snn.attacks.mode_ranking import (
    ModeTrial,
    RankingEffort,
    _greedy,
    golden_section,
    rank_modes,
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


def test_the_ranking_tells_a_live_surrogate_from_a_dead_one(digits: Any) -> None:
    victim, images, labels = digits
    dead = "bptt(surrogate=triangle(gamma=0.01))"
    trials = rank_modes(
        victim,
        images[:32],
        labels[:32],
        eps=0.1,
        modes=[dead, "bptr", "bptt"],
        effort=RankingEffort(steps=5, searched=1, evaluations=3),
    )
    by_name = {trial.gradient: trial for trial in trials}
    assert len(trials) == 6  # and three sharpnesses of the one that is best
    assert trials[0].soft_accuracy == min(trial.soft_accuracy for trial in trials)
    assert by_name[str(parse_mode(dead))].soft_accuracy == max(
        trial.soft_accuracy for trial in trials
    )
    assert all(trial.backwards == 5 and 0 <= trial.accuracy <= 1 for trial in trials)
    few = RankingEffort(steps=5, searched=0)
    again = rank_modes(victim, images[:32], labels[:32], eps=0.1, modes=["bptr"], effort=few)
    assert again == (by_name["bptr"],)
    with pytest.raises(InputError, match="images"):
        rank_modes(victim, images[:0], labels[:0], eps=0.1)


def test_the_ranking_covers_what_the_first_mode_misses(digits: Any) -> None:
    def trial(name: str, *soft: float) -> ModeTrial:
        images = torch.tensor(soft)
        return ModeTrial(name, float(images.mean()), 0.0, 1.0, images)

    best, alike, other = trial("a", 0.1, 0.1, 0.9), trial("b", 0.1, 0.2, 0.9), trial("c", 1, 1, 0.1)
    assert [t.gradient for t in _greedy([alike, other, best])] == ["a", "c", "b"]


def test_registered_modes_join_by_themselves() -> None:
    modes = registered_modes()
    names = {mode.name for mode in modes}
    assert names == set(MODES) - {"activation"}
    assert len({str(mode) for mode in modes}) == len(modes)
