"""Square starts from the worst points that are known, and moves to harder ones alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_snn import InputError, Victim, evaluate
from robust_snn.attacks import PGD, Adversarial, Square
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.problem import AttackInputs
from robust_snn.attacks.square import _Squares
from robust_snn.eval import AttackSpec, Suite
from robust_snn.neurons import NoisyModule
from victims import StandIn

EPS = {"Linf": 0.1, "L2": 0.5, "L1": 2.0}


class Falling(StandIn):
    """Two logits: the mean of an image, and what it has to reach."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1).mean(1), torch.full_like(x[:, 0, 0, 0], 0.45)], 1)


class Stair(StandIn):
    """Changes once both the left half has become darker and the right half lighter."""

    def forward(self, x: Tensor) -> Tensor:
        halves = x.flatten(1, 2).mean(1).unflatten(1, (2, -1)).mean(2)
        both = torch.maximum(halves[:, 0], 1 - halves[:, 1])
        return torch.stack([both, torch.full_like(both, 0.47)], 1)


def gaps(victim: Victim, x: Tensor) -> Tensor:
    return margin(victim(x), torch.zeros(len(x), dtype=torch.long))


@pytest.mark.parametrize("norm", EPS)
def test_moves_from_the_start_to_harder_points_in_the_ball(norm: str) -> None:
    victim, images = Victim(Falling()), torch.full((3, 2, 6, 6), 0.5)
    labels = torch.zeros(3, dtype=torch.long)
    change = {"Linf": 0.02, "L2": 0.02, "L1": 0.02}[norm]
    start = images - change
    attack = Square(steps=40, restarts=2, start=start)
    made = attack(victim, images, labels, eps=EPS[norm], norm=norm).images
    power = {"Linf": torch.inf, "L2": 2, "L1": 1}[norm]
    lengths = (made.double() - images.double()).flatten(1).norm(power, dim=1)
    assert (lengths <= EPS[norm]).all()
    assert (gaps(victim, made) >= gaps(victim, start)).all()
    assert norm != "Linf" or (gaps(victim, made) > 0).all()


def test_crosses_a_plateau_that_no_single_square_leaves() -> None:
    images, labels = torch.full((4, 1, 12, 12), 0.5), torch.zeros(4, dtype=torch.long)
    assert Square(steps=200, start=images)(Victim(Stair()), images, labels, eps=0.1).success.all()


def test_a_start_beyond_the_ball_is_projected() -> None:
    images, labels = torch.full((2, 1, 6, 6), 0.5), torch.zeros(2, dtype=torch.long)
    made = Square(steps=1, start=images - 0.3)(Victim(Falling()), images, labels, eps=0.1)
    assert made.success.all() and torch.allclose(made.images, images - 0.1)


@pytest.mark.parametrize(
    ("start", "said"),
    [("worse", "'worst'"), ("worst", "give images"), (torch.zeros(1, 1, 6, 6), "shape")],
)
def test_a_wrong_start_is_refused(start: Any, said: str) -> None:
    images, labels = torch.zeros(2, 1, 6, 6), torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match=said):
        Square(start=start)(Victim(Falling()), images, labels, eps=0.1)


def test_independent_rows_have_nothing_to_start_from() -> None:
    row = AttackSpec("square", "robust_snn", "square", options={"start": "worst"})
    with pytest.raises(InputError, match="independent"):
        Suite("mine", (row,), independent=True)


def test_in_a_suite_it_starts_from_the_worst_version_so_far(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, labels = torch.rand(5, 1, 6, 6) / 10 + 0.6, torch.zeros(5, dtype=torch.long)
    rows = (
        AttackSpec("pgd", "robust_snn", "pgd", steps=1, options={"alpha": 0.01}),
        AttackSpec("square", "robust_snn", "square", steps=1, options={"start": "worst"}),
    )
    made, starts = list[Tensor](), list[Tensor]()
    usual, given = PGD.within, Square._given

    def within(self: PGD, *args: Any) -> Adversarial:
        result = usual(self, *args)
        made.append(result.images)
        return result

    def start(self: Square, images: Tensor) -> Tensor:
        starts.append(given(self, images))
        return starts[-1]

    monkeypatch.setattr(PGD, "within", within)
    monkeypatch.setattr(Square, "_given", start)
    evaluate(
        Victim(Falling()),
        images,
        labels,
        suite=Suite("two", rows),
        eps=0.02,
        out=tmp_path,
        batch_size=3,
    )
    assert len(starts) == 2 and torch.equal(torch.cat(starts), torch.cat(made))


def test_sizes_are_those_of_a_search_of_10_000_queries() -> None:
    images, labels = torch.full((1, 1, 16, 16), 0.5), torch.zeros(1, dtype=torch.long)
    inputs = AttackInputs(Victim(Falling()), images, labels, torch.arange(1), 0.1, "Linf", 0)
    squares, sides = _Squares(inputs, 0), []
    for step in range(502):
        sides.append(int((squares.change(step)[0, 0] != 0).any(0).sum()))
    assert sides[:12] == [14] * 11 + [10]
    assert [sides[step] for step in (50, 51, 200, 201, 501)] == [10, 7, 7, 5, 4]


class Luck(NoisyModule):
    """The logits of `Falling` under noise of many times their difference."""

    def forward(self, x: Tensor) -> Tensor:
        luck = self.draw(len(x), x.device).keys % 1009 / 1009 - 0.5
        mean = x.flatten(1).mean(1)
        return torch.stack([mean + luck, torch.full_like(mean, 0.45)], 1)


def test_queries_end_as_soon_as_the_difference_is_clear() -> None:
    """Most points are worse, and the draws are the same: a few of 64 show it."""
    images, labels = torch.full((6, 1, 6, 6), 0.6), torch.zeros(6, dtype=torch.long)
    victim = Victim(Luck(), eot=64)
    assert victim.stochastic
    made = Square(steps=60)(victim, images, labels, eps=0.1).images
    assert victim.cost.forwards < 0.4 * 6 * 64 * 62
    assert (made.mean((1, 2, 3)) < 0.56).all()  # the lowest mean within eps is 0.5
