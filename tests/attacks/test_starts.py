"""Gradient attacks begin where they are told, or where the same attack on a variant ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import ATTACKS, EVENT_ATTACKS, GradientAttack
from robust_snn.attacks.problem import Problem
from robust_snn.eval import AttackSpec, Suite

GRADIENTS = [cls for cls in ATTACKS.values() if issubclass(cls, GradientAttack)]
TAKING = [cls for cls in GRADIENTS if cls.takes_start]


def linear(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).eval()
    images = torch.rand(6, 1, 4, 4)
    return net, images, net(images).argmax(1)


def seen_first(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The points at which every start of an attack takes its first gradient."""
    points, usual = list[Tensor](), Problem.loss_gradient

    def gradient(self: Problem, x: Tensor) -> Any:
        if not self._gradients:
            points.append(x)
        return usual(self, x)

    monkeypatch.setattr(Problem, "loss_gradient", gradient)
    return points


def test_all_that_move_in_a_ball_take_one() -> None:
    assert {cls.name for cls in GRADIENTS} - {cls.name for cls in TAKING} == {"transfer", "student"}
    for cls in EVENT_ATTACKS.values():
        if issubclass(cls, GradientAttack):
            with pytest.raises(InputError, match="takes no other"):
                cls(start="mean")


@pytest.mark.parametrize("cls", TAKING, ids=lambda cls: cls.name)
def test_the_first_start_is_the_given_one(
    cls: type[GradientAttack], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, images, labels = linear()
    norm, eps = ("L2", 0.5) if cls.name == "do" else ("Linf", 0.1)
    points = seen_first(monkeypatch)
    start = images + 0.01 * torch.randn_like(images)
    cls(start=start, restarts=2)(Victim(net), images, labels, eps=eps, norm=norm)
    assert torch.allclose(points[0], start.clamp(0, 1), atol=1e-6)
    assert len(points) == 1 or cls.name in ("fgsm", "mim") or not points[1].equal(points[0])


def test_a_start_from_a_variant_is_what_the_attack_makes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, images, labels = linear()
    other = linear(1)[0]
    attack = ATTACKS["pgd"](steps=3)
    there = attack(Victim(other), images, labels, eps=0.1, seed=4).images
    points = seen_first(monkeypatch)
    ATTACKS["pgd"](steps=3, start=Victim(other))(Victim(net), images, labels, eps=0.1, seed=4)
    assert len(points) == 2 and torch.allclose(points[1], there, atol=1e-6)


def test_rows_of_a_suite_start_from_the_worst_version_and_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, images, labels = linear()
    other = Victim(linear(1)[0])
    points = seen_first(monkeypatch)
    rows = tuple(
        AttackSpec(name, "robust_snn", "pgd", steps=2, options={"alpha": 0.001, **options})
        for name, options in [
            ("first", {}),
            ("worst", {"start": "worst"}),
            ("transfer", {"start": "checkpoint"}),
        ]
    )
    suite = Suite("starts", rows)
    robust_snn.evaluate(net, images, labels, suite=suite, eps=0.002, out=tmp_path, source=other)
    own, worst, *_ = points
    assert not own.equal(worst) and len(points) == 4  # the third row's on the source first
    with pytest.raises(InputError, match="--source-checkpoint"):
        robust_snn.evaluate(net, images, labels, suite=suite, eps=0.002, out=tmp_path / "b")
    options = {"start": "bppt"}
    wrong = Suite("wrong", (AttackSpec("a", "robust_snn", "pgd", options=options),))
    with pytest.raises(InputError, match="did you mean 'bptt'"):
        robust_snn.evaluate(net, images, labels, suite=wrong, eps=0.1, out=tmp_path / "c")
