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
from robust_snn.attacks.loss_schedules import Moment
from robust_snn.attacks.malt_targets import malt_order
from victims import StandIn


def every() -> torch.Tensor:
    return torch.arange(64)


def test_targeted_dlr_is_the_released_one() -> None:
    logits, labels = torch.randn(64, 7), every() % 7
    targets = (labels + 3) % 7
    released = APGDAttack_targeted(None, eps=0.1, device="cpu")
    released.y_target = targets
    result = Goal("dlr", labels, targets).loss(logits, every())
    assert torch.allclose(result, released.dlr_loss_targeted(logits, labels), atol=1e-6)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin", "pm", "gama", "md"])
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


def test_margins_of_probabilities() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    p = logits.softmax(1)[0]
    for targets, other in ((None, 1), (torch.tensor([2]), 2)):
        found = Goal("pm", torch.tensor([0]), targets).loss(logits, every()[:1])
        assert torch.allclose(found, p[other] - p[0])


def test_schedules_climb_something_else_first() -> None:
    logits, labels, rows = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), every()[:5]
    clean, temperature = torch.randn(5, 4), 2.0
    away = ((logits / temperature).softmax(1) - clean.softmax(1)).square().sum(1)
    for name in ("gama", "md"):
        goal = Goal(name, labels, None, temperature)
        loss = goal.loss(logits, rows)

        def climbed(
            progress: float, start: int = 0, goal: Goal = goal, loss: torch.Tensor = loss
        ) -> torch.Tensor:
            return goal.climbed(logits, rows, loss, Moment(progress, start, clean))

        assert torch.equal(climbed(1.0), loss)
        if name == "gama":
            assert torch.allclose(climbed(0.0), loss + 50 * away)
            assert torch.allclose(climbed(0.125), loss + 25 * away)
        else:
            assert torch.allclose(climbed(0.49, 1) + climbed(0.49, 0), loss)  # the margin's parts
    assert Goal("ce", labels, None).climbed(logits, rows, loss, None) is loss


def test_malt_orders_by_the_distance_of_boundaries() -> None:
    """On a linear net, the gap over the dual norm of the weights' difference is that distance."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    images = torch.rand(6, 3, 2, 2)
    logits = net(images).detach()
    labels = logits.argmax(1)
    for norm, dual in (("Linf", 1), ("L2", 2)):
        order = malt_order(Victim(net), images, labels, norm)
        assert order.shape == (4, 6)
        for image in range(6):
            label, weight = int(labels[image]), net[1].weight.detach()
            distance = [
                float(
                    (logits[image, label] - logits[image, k])
                    / (weight[label] - weight[k]).norm(dual)
                )
                for k in order[:, image]
            ]
            assert distance == sorted(distance) and label not in order[:, image]
    flat = malt_order(Victim(nn.Sequential(nn.Flatten(), Constant())), images, labels, "L2")
    assert (flat != labels).all() and all(len(set(column.tolist())) == 4 for column in flat.T)


class Constant(StandIn):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(5.0).expand(len(x), 5) + 0 * x.sum()


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
