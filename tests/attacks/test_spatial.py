"""Turned, shifted and bent images, against every choice."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import Flow, Spatial
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.spatial import transformed


def test_transformations_are_those_of_pixels() -> None:
    images = torch.rand(2, 3, 6, 8)
    assert torch.allclose(transformed(images, 0, 0, 0), images, atol=1e-6)
    down = transformed(images, 0, 2 / 6, 1 / 8)
    assert torch.allclose(down[:, :, 2:, 1:], images[:, :, :-2, :-1], atol=1e-5)
    assert (down[:, :, :2] == 0).all() and (down[..., 0] == 0).all()
    square = images[..., :6]
    for quarter in range(4):
        turned = transformed(square, 90 * quarter, 0, 0)
        assert torch.allclose(turned, square.rot90(quarter, (2, 3)), atol=1e-5)


def test_the_worst_of_the_grid() -> None:
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval(), torch.rand(20, 1, 6, 6)
    labels, attack = net(images).argmax(1), Spatial(angles=5, places=3)
    assert len(attack.grid()) == 45 and (-30.0, 0.0, pytest.approx(0.1)) in attack.grid()
    made = attack(Victim(net), images, labels, eps=1)
    every = [margin(net(transformed(images, *point)), labels) for point in attack.grid()]
    worst = torch.stack([*every, margin(net(images), labels)]).amax(0)
    assert torch.allclose(margin(net(made.images), labels), worst, atol=1e-6)
    assert torch.equal(made.success, worst > 0) and 0 < made.success.sum() < 20


def test_flow_against_every_neighbour() -> None:
    """On a linear net each pixel takes the brightest or the darkest of its neighbours."""
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval(), torch.rand(20, 1, 6, 6)
    labels = net(images).argmax(1)
    shifted = [
        F.pad(images, (1, 1, 1, 1))[..., 1 + y : 7 + y, 1 + x : 7 + x]
        for y, x in product((-1, 0, 1), repeat=2)
    ]
    rise = (net[1].weight[1] - net[1].weight[0]).detach().view(1, 1, 6, 6)
    gain = torch.stack(
        [s * torch.where(labels == 0, 1, -1).view(-1, 1, 1, 1) * rise for s in shifted]
    )
    best = gain.amax(0).sum((1, 2, 3)) - gain[4].sum((1, 2, 3))
    before = margin(net(images), labels)
    made = Flow(steps=30, restarts=3)(Victim(net), images, labels, eps=1).images
    found = margin(net(made), labels) - before
    assert (found <= best + 1e-4).all() and (found / best).mean() > 0.8
    half = Flow(pixels=0.5)(Victim(net), images, labels, eps=1).images
    assert (margin(net(half), labels) - before < best).all()


def test_the_suite_and_what_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval(), torch.rand(9, 1, 6, 6)
    labels = net(images).argmax(1)
    verdict = robust_snn.evaluate(net, images, labels, suite="spatial", out=tmp_path)
    assert len(verdict.attacks) == 6 and verdict.robust.accuracy < 1
    accuracy = {row.name: row.accuracy for row in verdict.attacks}
    assert accuracy["rotation-and-translation"] <= min(
        accuracy["rotation"], accuracy["translation"]
    )
    for attack in (Spatial(), Flow()):
        with pytest.raises(InputError, match="eps must be 1"):
            attack(Victim(net), images, labels, eps=0.1)
        with pytest.raises(InputError, match="needs images"):
            attack(Victim(net), images[:, None], labels, eps=1)
    with pytest.raises(InputError, match="degrees=200"):
        Spatial(degrees=200.0)
    with pytest.raises(InputError, match="pixels of flow"):
        Flow(pixels=0.0)
