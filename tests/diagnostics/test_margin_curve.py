"""The margin along a gradient, on a linear network, whose gradient promises what comes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robust_snn import Victim
from robust_snn.diagnostics.margin_curve import POINTS, margin_curve


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_linear_network_keeps_its_gradients_promise(norm: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 0, 1, 1])
    curve = margin_curve(Victim(net), images, labels, eps=0.1, norm=norm, seed=0)
    weights = net[1].weight.detach().double()
    slope = (weights[0] - weights[1]).norm(1 if norm == "Linf" else 2)
    assert curve.distances == pytest.approx(torch.linspace(-0.1, 0.1, POINTS).tolist())
    assert curve.along == pytest.approx(curve.promised, abs=1e-5)
    assert curve.along[-1] - curve.along[0] == pytest.approx(0.2 * float(slope), rel=1e-4)
    assert abs(curve.random[-1] - curve.random[0]) < 0.2 * float(slope)
