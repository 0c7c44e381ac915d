"""The ranking finds the modes that work."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from robust_snn import InputError, Victim
from robust_snn.attacks.mode_ranking import (
    ModeTrial,
    RankingEffort,
    _greedy,
    fitting_temperature,
    golden_section,
    gradient_flaw,
    rank_modes,
    registered_modes,
    typical_margin,
)
from robust_snn.gradients import MODES, parse_mode
from victims import StandIn


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


class Scaled(StandIn):
    """Powers of two pixels as logits, times a factor."""

    def __init__(self, factor: float, power: int = 2) -> None:
        super().__init__()
        self.factor, self.power = factor, power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * (1 + x.flatten(1)[:, :2]) ** self.power


@pytest.mark.parametrize("factor", [1e4, 1e-6])
def test_the_size_of_logits_changes_no_ranking(factor: float) -> None:
    images = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = Scaled(1.0)(images).argmax(1)
    found = []
    for scale in (8.0, 8 * factor):
        victim = Victim(Scaled(scale))
        temperature = fitting_temperature(victim, images, labels, 0)
        (trial,) = rank_modes(victim, images, labels, eps=0.1, temperature=temperature)
        found.append(trial)
        assert (temperature == 1) == (scale == 8)
    assert found[0].accuracy == found[1].accuracy < 1
    assert found[1].replaced == 0 and found[1].flaw == ""
    ties = Victim(Scaled(0.0))  # which no factor makes larger
    assert fitting_temperature(ties, images, labels, 0) == 1


@pytest.mark.parametrize(
    ("net", "flaw", "replaced"),
    [
        (Scaled(1.0), "", 0.0),
        (Scaled(1.0, power=1), "is the same for all images", 0.0),
        (Scaled(0.0), "vanishes on 100% of images", 1.0),
        (Scaled(1e-33), "vanishes on 100% of images", 0.0),
        (Scaled(1e33), "explodes on 100% of images", 0.0),
    ],
)
def test_what_is_wrong_with_a_gradient(net: Scaled, flaw: str, replaced: float) -> None:
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    of = Victim(net), images, torch.zeros(4, dtype=torch.int64)
    assert gradient_flaw(*of, 0) == flaw
    (trial,) = rank_modes(
        *of, eps=0.1, effort=RankingEffort(3, 0), temperature=abs(net.factor) or 1
    )
    assert (trial.replaced, trial.flaw) == (replaced, flaw)


def test_ties_have_a_scale_that_float32_holds() -> None:
    """All margins are zero, as where a readout counts spikes and none fired."""
    victim = Victim(Scaled(0.0))
    scale = typical_margin(victim, torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.long), 0)
    assert (torch.zeros(1) / scale).isfinite().all() and scale > 0
