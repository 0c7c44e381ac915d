"""Answers that a tie decides are counted, in a verdict and in a diagnosis, clean and attacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robust_snn import Victim, evaluate
from robust_snn.diagnostics.attack_sanity import ShortAttacks
from robust_snn.diagnostics.tied_answers import Answers, tied_answers, ties_under_attack
from robust_snn.eval import AttackSpec, Suite
from victims import StandIn

RIGHT, WRONG = np.ones((8, 1), bool), np.zeros((8, 1), bool)


def first(count: int) -> np.ndarray:
    return np.arange(8)[:, None] < count


@pytest.mark.parametrize(
    ("right", "tied", "status", "accuracy"),
    [
        (RIGHT, first(2), "warn", "75.0% to 100.0%"),
        (WRONG, first(2), "warn", "0.0% to 25.0%"),
        (first(4), first(2), "warn", "25.0% to 50.0%"),
        (~first(1), first(3), "warn", "62.5% to 100.0%"),
    ],
)
def test_accuracies_lie_between_all_ties_lost_and_won(
    right: np.ndarray, tied: np.ndarray, status: str, accuracy: str
) -> None:
    (note,) = tied_answers(Answers(RIGHT, WRONG), Answers(right, tied))
    assert (note.value, note.status) == (tied.mean(), status)
    assert f"accuracy is 100.0% to 100.0% clean and {accuracy} under attack" in note.why


def test_few_ties_are_told_and_none_are_not() -> None:
    right, none = np.ones((40, 10), bool), np.zeros((40, 10), bool)
    assert not tied_answers(Answers(right, none), Answers(right, none))
    few = none.copy()
    few[0, :3] = True
    (note,) = tied_answers(Answers(right, few), Answers(right, none))
    assert note.status == "pass" and note.value == 3 / 400


class Counts(StandIn):
    """Class 0 gets a vote of each bright pixel, class 1 two in any case, class 2 none."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x.flatten(1)
        votes = ((bright > 0.5).float() + bright - bright.detach()).sum(1)  # straight-through
        return torch.stack([votes, torch.full_like(votes, 2.0), 0 * votes], 1)


# 3, 2 and 1 votes for class 0, which is first; the first image can be made to lose one of three.
IMAGES = torch.tensor([[0.9, 0.9, 0.53, 0.3], [0.9, 0.9, 0.3, 0.3], [0.9, 0.3, 0.3, 0.3]])
IMAGES = IMAGES.view(3, 1, 2, 2)


@pytest.mark.parametrize(
    ("labels", "clean", "robust"),
    [
        ([0, 0, 1], "66.7% to 100.0%", "33.3% to 100.0%"),  # an attack that ends in a tie
        ([1, 1, 1], "33.3% to 66.7%", "33.3% to 66.7%"),
    ],
)
def test_a_verdict_and_a_diagnosis_count_ties(
    labels: list[int], clean: str, robust: str, tmp_path: Path
) -> None:
    of = Victim(Counts()), IMAGES, torch.tensor(labels)
    suite = Suite("short", (AttackSpec("fgsm", "robust_snn", "fgsm"),))
    verdict = evaluate(*of, suite=suite, eps=0.06, out=tmp_path, report=False)
    (told,) = [note for note in verdict.diagnostics if note.name == "tied answers"]
    (same,) = ties_under_attack(ShortAttacks(*of, eps=0.06))
    assert told == same and told.status == "warn"
    assert f"accuracy is {clean} clean and {robust} under attack" in told.why
