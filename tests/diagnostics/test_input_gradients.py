"""Measures of input gradients and of the membranes behind them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import robust_snn
from robust_snn import Victim
from robust_snn.diagnostics.input_gradients import (
    _distances,
    batch_independence,
)


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_a_gradient_that_follows_batch_mates_shows(digits: Any, scope: str) -> None:
    victim = digits.victim.replace(gradient=f"pdsg(scope={scope})")
    result = batch_independence(victim, digits.images[:16], digits.labels[:16], alone=2)
    assert result.status == {"sample": "pass", "batch": "warn"}[scope], result


def test_distances_are_those_of_the_membranes() -> None:
    neuron = robust_snn.neurons.LIF(decay=0.5, threshold=1.0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = neuron

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.neuron(2 * x.flatten(1).expand(2, len(x), -1)).mean(0)

    x = torch.tensor([[[[0.3, 1.0]]]])
    result = _distances(Victim(Net().eval()), x, torch.zeros(1, dtype=torch.int64), 0)["neuron"]
    assert torch.allclose(result[:, 0], torch.tensor([[0.4, 1.0], [0.1, 1.0]]), atol=1e-6)
