"""Whatever any test certifies is attacked at once: a certified image that falls fails the test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from robust_snn import Victim
from robust_snn.attacks import APGD
from robust_snn.certificates import bounds

Rows = list[tuple[bool, bool, float, str]]


@pytest.fixture(autouse=True)
def attacked_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacks certified images at random corners of the ball and by APGD."""
    certify_batch = bounds._certify_batch

    def attacked(network: Any, x: Tensor, labels: Tensor, eps: float, nodes: int) -> Rows:
        rows: Rows = certify_batch(network, x, labels, eps, nodes)
        certified = torch.tensor([row[0] for row in rows])
        if certified.any():
            images, classes = x[certified].float(), labels[certified]
            for points in _hardest(network.original, images, classes, eps):
                assert network.original(points).argmax(1).equal(classes), (
                    f"a certified image is misclassified within {eps}"
                )
        return rows

    monkeypatch.setattr(bounds, "_certify_batch", attacked)


def _hardest(net: Any, images: Tensor, labels: Tensor, eps: float) -> list[Tensor]:
    """Points of the Linf ball, each `[B, ...]`; the global generators stay as they were."""
    generator = torch.Generator().manual_seed(0)
    low, high = (images.double() - eps).clamp(0, 1), (images.double() + eps).clamp(0, 1)
    corners = [
        torch.where(torch.rand(images.shape, generator=generator) < share, low, high).float()
        for share in (0.0, 0.5, 0.5, 0.5, 1.0)
    ]
    attack = APGD(steps=5, loss="margin")
    return [*corners, attack.within(Victim(net), images, labels, eps, "Linf").images]
