"""Diagnostics pass on a network with a gradient and fail where it is hidden."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import robust_snn
from robust_snn import Victim
from robust_snn.diagnostics import (
    Finding,
    agreement,
    batch_mates,
    convergence,
    diagnose,
    fixed_noise,
    order,
    rises,
)
from robust_snn.diagnostics.input_gradients import _distances

EPS = 0.1


def by_name(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


def test_a_trained_network_passes(digits: Any) -> None:
    victim, images, labels = digits
    found = diagnose(victim, images[:32], labels[:32], eps=EPS)
    assert {f.status for f in found} <= {"pass", "warn"}, [f for f in found if f.status == "fail"]
    statuses = by_name(found)
    for name in ("zero gradients", "finite differences", "collapse", "accuracy over eps"):
        assert statuses[name] == "pass", next(f for f in found if f.name == name)
    assert all(f.why and isinstance(f.value, float) for f in found)
    assert victim.cost.backwards


def test_a_dead_surrogate_fails(digits: Any) -> None:
    victim, images, labels = digits
    masked = victim.replace(gradient="bptt(surrogate=triangle(gamma=0.005))")
    statuses = by_name(diagnose(masked, images[:32], labels[:32], eps=EPS))
    for name in (
        "zero gradients",
        "silent neurons",
        "vanishing degree",
        "finite differences",
        "agreement of modes",
    ):
        assert statuses[name] == "fail", name
    assert statuses["collapse"] != "pass"


def test_the_cheap_ones_take_few_gradients(digits: Any) -> None:
    victim, images, labels = digits
    view = victim.replace()
    found = diagnose(view, images[:16], labels[:16], eps=EPS, full=False)
    assert len(found) == 6 and view.cost.backwards <= 16 * 10


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_a_gradient_that_follows_batch_mates_shows(digits: Any, scope: str) -> None:
    view = digits.victim.replace(gradient=f"pdsg(scope={scope})")
    found = batch_mates(view, digits.images[:16], digits.labels[:16], alone=2)
    assert found.status == {"sample": "pass", "batch": "warn"}[scope], found


def test_distances_are_those_of_the_membranes() -> None:
    neuron = robust_snn.neurons.LIF(decay=0.5, threshold=1.0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = neuron

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.neuron(x.flatten(1).expand(2, len(x), -1)).mean(0)

    x = torch.tensor([[[[0.6, 2.0]]]])
    found = _distances(Victim(Net().eval()), x, torch.zeros(1), 0)["neuron"]
    assert torch.allclose(found[:, 0], torch.tensor([[0.4, 1.0], [0.1, 1.0]]), atol=1e-6)


def test_accuracy_must_not_rise_and_knowledge_must_help() -> None:
    assert rises("eps", {0.1: 0.5, 0.2: 0.3}, 100).status == "pass"
    assert rises("eps", {0.1: 0.3, 0.2: 0.5}, 100).status == "fail"
    assert rises("eps", {0.2: 0.47, 0.1: 0.4}, 100).status == "warn"
    assert order("a", 0.3, 0.5, 100, "gradients", "Square").status == "pass"
    assert order("a", 0.5, 0.3, 100, "gradients", "Square").status == "fail"


def test_noise_is_measured(digits: Any) -> None:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "num_classes": 10}
    noisy = robust_snn.adapt("snn_vgg5_stog", T=2, width=0.125, head_width=16, **size)
    images, labels = digits.images[:6], digits.labels[:6]
    found = convergence(noisy, images, labels, draws=7)
    assert 0 < found.value <= 1 and " at 7" in found.why and " at 50" in found.why
    gap = fixed_noise(noisy, images, labels, eps=0.1, steps=3)
    assert -1 <= gap.value <= 1
    assert convergence(digits.victim, images, labels).status == "pass"
    assert "bptr" in agreement(noisy, images, labels, draws=2).why
