"""FMN finds the least radius that misleads a network, and no more than the threat allows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_snn import Victim
from robust_snn.attacks import FMN
from victims import StandIn, tiny_victim, told_by

LARGEST = {"Linf": 1.0, "L2": 6.0}
ORDERS = {"Linf": (torch.inf, 1), "L2": (2, 2)}  # of a norm and of its dual


class Plane(StandIn):
    """Two logits, whose difference is linear in the image."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        side = (x - 0.5).flatten(1) @ self.weight
        return torch.stack([side, -side], 1)


@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_least_radius_of_a_linear_network(norm: str, scale: float) -> None:
    """The distance to a plane is the margin over the dual norm of its normal."""
    order, dual = ORDERS[norm]
    weight = scale * torch.randn(48)
    victim, images = Victim(Plane(weight)), 0.5 + torch.randn(8, 3, 4, 4) / 25
    labels = victim(images).argmax(1)
    truth = ((images - 0.5).flatten(1) @ weight).abs() / weight.norm(dual)
    made = FMN(steps=200)(victim, images, labels, eps=LARGEST[norm], norm=norm)
    found = (made.images - images).flatten(1).norm(order, dim=1)
    assert made.success.all() and (found >= 0.9999 * truth).all()
    assert (found <= 1.03 * truth + 1e-4).all(), found / truth
    middle = 1.001 * float(truth.median())
    half = FMN(steps=200)(victim, images, labels, eps=middle, norm=norm)
    assert torch.equal(half.success, found <= middle)
    kept = (half.images - images).flatten(1).norm(order, dim=1)
    assert (kept <= middle + 1e-6).all()


def test_follows_the_gradient_mode_of_the_victim() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 3)
    found = [
        FMN(steps=5)(victim.replace(gradient=mode), images, labels, eps=1.0).images
        for mode in ("bptt", "bptr")
    ]
    assert not torch.equal(*found)
