"""Penalties and projections against closed forms."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from robust_snn.training.regularisers import (
    clamp_parameters,
    gate_parameters,
    gate_penalty,
    orthogonal_retraction,
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


@pytest.mark.parametrize("layer", [nn.Linear(12, 7), nn.Conv2d(3, 8, 3), nn.Linear(5, 9)])
def test_a_retraction_moves_singular_values_by_the_closed_form(layer: nn.Module) -> None:
    """Oracle 12: `s -> s (1 + beta - beta s^2)`, and the singular vectors stay."""
    before = layer.weight.detach().flatten(1).clone()
    bias = layer.bias.detach().clone()
    orthogonal_retraction(layer, 0.1)
    left, s, right = torch.linalg.svd(before, full_matrices=False)
    expected = left @ torch.diag(s * (1.1 - 0.1 * s**2)) @ right
    torch.testing.assert_close(layer.weight.detach().flatten(1), expected)
    assert torch.equal(layer.bias.detach(), bias)


def test_retractions_lead_to_orthogonal_rows() -> None:
    layer = nn.Linear(30, 10)
    for _ in range(300):
        orthogonal_retraction(layer, 0.1)
    gram = layer.weight.detach() @ layer.weight.detach().T
    torch.testing.assert_close(gram, torch.eye(10), atol=1e-4, rtol=0)


def test_of_a_wide_matrix_three_tenths_of_the_rows_move() -> None:
    layer = nn.Linear(20, 250)
    for step in range(2):
        before = layer.weight.detach().clone()
        generator = torch.Generator().manual_seed(step)
        orthogonal_retraction(layer, 0.1, generator)
        moved = (layer.weight.detach() != before).any(1)
        assert int(moved.sum()) == 75
        rows = before[moved]
        expected = 1.1 * rows - 0.1 * rows @ rows.T @ rows  # of the rows among themselves
        torch.testing.assert_close(layer.weight.detach()[moved], expected)
    narrower = nn.Linear(20, 199)
    before = narrower.weight.detach().clone()
    orthogonal_retraction(narrower, 0.1)
    assert (narrower.weight.detach() != before).any(1).all()


def test_a_retraction_reaches_kernels_and_matrices_alone() -> None:
    net = timm.create_model("snn_wrn16_stog", T=1, width=0.25, img_size=8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    orthogonal_retraction(net, 0.01)
    moved = {
        name for name, value in net.state_dict().items() if not torch.equal(value, before[name])
    }
    layers = (m for m in net.named_modules() if isinstance(m[1], nn.Conv2d | nn.Linear))
    assert moved == {f"{name}.weight" for name, _ in layers}
