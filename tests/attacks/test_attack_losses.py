"""Losses, and the classes that attacks aim at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack_targeted
from torch import nn
from torch.nn import functional as F

from robust_snn import InputError, Victim
from robust_snn.attacks.attack_losses import Goal, choose_targets
from robust_snn.attacks.image_rng import ImageRng


def every() -> torch.Tensor:
    return torch.arange(64)


def test_targeted_dlr_is_the_released_one() -> None:
    logits, labels = torch.randn(64, 7), every() % 7
    targets = (labels + 3) % 7
    released = APGDAttack_targeted(None, eps=0.1, device="cpu")
    released.y_target = targets
    result = Goal("dlr", labels, targets).loss(logits, every())
    assert torch.allclose(result, released.dlr_loss_targeted(logits, labels), atol=1e-6)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("targeted", [False, True])
def test_losses_rise_with_success(loss: str, targeted: bool) -> None:
    labels, targets = torch.zeros(2).long(), torch.ones(2).long()
    logits = torch.tensor([[2.0, 1.9, 0.0, -1.0], [1.9, 2.0, 0.0, -1.0]])
    goal = Goal(loss, labels, targets if targeted else None)
    easy, hard = goal.loss(logits, every()[:2])
    assert easy < hard and goal.wrong(logits, every()[:2]).tolist() == [0, 1]
    if loss == "dlr":
        with pytest.raises(InputError, match="classes"):
            goal.loss(logits[:, :2], every()[:2])


def test_tet_is_the_cross_entropy_of_every_step() -> None:
    logits, labels = torch.randn(3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    goal = Goal("tet", labels, None)
    steps = [F.cross_entropy(step, labels, reduction="none") for step in logits]
    assert torch.allclose(goal.loss(logits, every()[:5]), sum(steps) / 3)  # type: ignore[arg-type]
    wrong = logits.mean(0).argmax(1) != labels
    assert torch.equal(goal.wrong(logits, every()[:5]), wrong.float())


def test_the_logits_of_every_step_average_to_the_logits(digits: Any) -> None:
    x = digits.images[:4]
    steps = digits.victim.replace(output="steps")(x)
    assert steps.shape == (3, 4, 10)
    assert torch.allclose(steps.mean(0), digits.victim(x), atol=1e-5)
    with pytest.raises(InputError, match="every step"):
        Victim(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), output="steps")(x)


def test_targets_never_are_the_label() -> None:
    labels, logits = torch.arange(600) % 4, torch.randn(600, 4)
    rng = ImageRng(0, torch.arange(600), torch.zeros(600, 1))
    random = choose_targets("random", logits, labels, rng)
    shift = (random[0] - labels) % 4
    assert [int((shift == s).sum()) > 150 for s in range(4)] == [False, True, True, True]
    ranked = choose_targets(9, logits, labels, rng)
    assert ranked.shape == (3, 600) and (ranked != labels).all()
    values = logits.gather(1, ranked.T)
    assert (values[:, :-1] >= values[:, 1:]).all()
    least = choose_targets("least-likely", logits, labels, rng)
    assert torch.equal(least[0], ranked[2])
    with pytest.raises(InputError, match="targets"):
        choose_targets(labels, logits, labels, rng)
