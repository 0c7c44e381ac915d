"""Patches: one square within the budget, near the best of all places and pixels."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import Patch
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.patch import _grid


def test_against_every_place() -> None:
    """On a linear net the best pixels are black or white, by the sign of the weights."""
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).eval(), torch.rand(12, 2, 6, 6)
    labels, weight = net(images).argmax(1), net[1].weight.detach().view(4, 2, 6, 6)
    best = torch.full((12,), -torch.inf)
    for top, left, other in product(range(5), range(5), range(4)):
        x = images.clone()
        gain = weight[other] - weight[labels]
        part = (..., slice(top, top + 2), slice(left, left + 2))
        x[part] = (gain[part] > 0).float()
        best = torch.maximum(best, margin(net(x), labels).where(labels != other, best))
    made = Patch(places=25)(Victim(net), images, labels, eps=8)
    found = margin(net(made.images), labels)
    assert (found <= best + 1e-5).all() and (found > best - 0.05).float().mean() >= 0.75
    assert torch.equal(made.success, found > 0)
    few = Patch(places=3)(Victim(net), images, labels, eps=8)  # the hardest of 25 by trial
    assert (margin(net(few.images), labels) > best - 0.05).float().mean() >= 0.5
    changed = (made.images != images).any(1)
    for rows in changed:
        at = rows.nonzero()
        assert len(at) <= 4 and (at.amax(0) - at.amin(0) <= 1).all()


@pytest.mark.parametrize("side", [1, 5, 14, 15, 28, 224])
def test_places_that_are_tried(side: int) -> None:
    places = _grid(side, side)
    assert len(places) == side**2 if side < 15 else 50 < len(places) <= 200
    assert {(0, 0), (side - 1, side - 1)} <= set(places)


def test_a_suite_of_patches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).eval(), torch.rand(12, 2, 6, 6)
    labels = net(images).argmax(1)
    verdict = robust_snn.evaluate(net, images, labels, suite="patch", eps=18, out=tmp_path)
    assert verdict.threat == {"norm": "L0", "eps": 18.0} and verdict.robust.accuracy < 1
    with pytest.raises(InputError, match="needs images"):
        Patch()(Victim(net), images[:, None], labels, eps=8)
    with pytest.raises(InputError, match="changes 2 entries, got eps=1"):
        Patch()(Victim(net), images, labels, eps=1)
    assert Patch()(Victim(net), images[:0], labels[:0], eps=8).images.shape == (0, 2, 6, 6)


def test_labels_of_inference_mode() -> None:
    torch.manual_seed(0)
    victim, images = (
        Victim(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).eval()),
        torch.rand(4, 2, 6, 6),
    )
    labels = torch.arange(4)
    attack = Patch(steps=2, places=2)
    with torch.inference_mode():
        inside = attack(victim, images.clone(), labels.clone(), eps=8)
    assert torch.equal(inside.images, attack(victim, images, labels, eps=8).images)
