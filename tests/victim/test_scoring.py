"""Scoring on fresh draws: the same answers whatever the batches, and nothing else touched."""

from __future__ import annotations

import pytest
import torch

from robust_snn import Victim
from robust_snn.victim.checked_inputs import count_classes
from robust_snn.victim.scoring import accuracy, correct, fresh_logits
from victims import tiny_victim, told_by, untouched

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture(params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest, device: torch.device) -> Victim:
    return tiny_victim(request.param)


def test_each_column_is_a_draw_of_the_plain_network(victim: Victim) -> None:
    images, labels = told_by(victim, 7)
    ids = torch.arange(7) + 100
    with untouched(victim.train()):
        right = correct(victim, images, labels, draws=3, ids=ids, purpose="select", batch_size=2)
    logits = fresh_logits(victim.eval(), images, ids, right.shape[1], "select")
    assert right.shape == (7, 3 if victim.stochastic else 1)
    assert torch.equal(right, torch.stack([z.argmax(1) == labels for z in logits], 1))


def test_accuracy_is_the_mean_over_images_and_draws(victim: Victim) -> None:
    images, labels = told_by(victim, 5)
    right = correct(victim, images, labels, draws=4)
    assert accuracy(victim, images, labels, draws=4) == right.double().mean()


@pytest.mark.parametrize("classes", [2, 10])
def test_counting_classes_is_no_pass_of_the_victim(classes: int) -> None:
    victim = tiny_victim(True, classes).replace(eot=3).train()
    images = torch.rand(2, 3, 8, 8)
    with untouched(victim):
        assert count_classes(victim, images) == classes
    assert victim.cost.forwards == 0
