"""The training benchmark trains the same network in every way, and counts all convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robust_snn.benchmarks import training_step_speed as training

WIDTH = 0.125  # PyTorch 2.14 crashes in strided 1x1 channels-last convolutions of 6 channels


@pytest.mark.parametrize("case", ["spikingjelly", *training.OURS])
def test_every_candidate_trains_the_plain_network(case: str) -> None:
    if case == "spikingjelly":
        pytest.importorskip("spikingjelly")
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = training.candidate_network(training.BASE, "snn_wrn16", 2, width=WIDTH)
    net = training.candidate_network(case, "snn_wrn16", 2, width=WIDTH)
    assert training.training_refusal(net, plain, x) == ""
    training.training_step(case, net, x)()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_another_gradient_is_refused() -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = training.candidate_network(training.BASE, "snn_wrn16", 2, width=WIDTH)
    other = training.training_network("snn_wrn16", 2, width=WIDTH, gradient="bptr")
    assert "cosine" in training.training_refusal(other, plain, x)


def test_the_floor_is_every_convolution_and_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = training.candidate_network(training.BASE, "snn_vgg11", 2, width=0.05)
    run = training.convolution_floor(plain, torch.rand(2, 3, 32, 32))
    wanted: list[int] = []
    monkeypatch.setattr(torch.autograd, "grad", lambda out, inputs, up: wanted.append(len(inputs)))
    run()
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in plain.modules())
    assert wanted == [1] + [2] * (layers - 1)
