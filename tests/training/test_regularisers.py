"""Penalties and projections against closed forms."""

from __future__ import annotations

import pytest
import timm
import torch

from robust_snn.training.regularisers import (
    clamp_parameters,
    gate_parameters,
    gate_penalty,
    penalty_strength,
)


def test_gate_penalty_and_its_gradient() -> None:
    parameters = [torch.rand(3, 4, requires_grad=True), torch.rand(5, requires_grad=True)]
    penalty = gate_penalty(parameters, 0.2)
    expected = 0.1 * sum(float((p.detach() ** 2).sum()) for p in parameters)
    torch.testing.assert_close(float(penalty.detach()), expected)
    penalty.backward()
    for parameter in parameters:
        torch.testing.assert_close(parameter.grad, 0.2 * parameter.detach())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_strength_leads_to_the_opening(momentum: float) -> None:
    parameter = torch.nn.Parameter(torch.full((3,), 0.95))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=momentum)
    strength = penalty_strength(0.95, 0.6, steps=1000, lr=0.1, momentum=momentum)
    for _ in range(1000):
        optimizer.zero_grad()
        gate_penalty([parameter], strength).backward()
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.6), atol=5e-3, rtol=0)


def test_clamp_reaches_gates_and_sums() -> None:
    net = timm.create_model("snn_wrn16_stog", T=1, width=0.25, img_size=8)
    with torch.no_grad():
        for parameter in gate_parameters(net):
            parameter.flatten()[:2] = torch.tensor([-3.0, 7.0])
        for name, parameter in net.named_parameters():
            if name.endswith("sum.weight"):
                parameter.copy_(torch.tensor([0.9, 0.3]))
    clamp_parameters(net)
    for parameter in gate_parameters(net):
        assert float(parameter.min()) >= 0.1 and float(parameter.max()) <= 1
    sums = [p for name, p in net.named_parameters() if name.endswith("sum.weight")]
    assert sums
    for weight in sums:
        torch.testing.assert_close(weight.detach(), torch.tensor([0.8, 0.2]))
