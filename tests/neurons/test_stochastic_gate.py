"""Oracle 8: the gradient of a gate's opening probability."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn.neurons import LIF, StochasticGate, set_noise
from robust_snn.utils.errors import InputError

SAMPLES = 2000


def opened(gate: StochasticGate, steps: int = 8) -> torch.Tensor:
    """Gates on spikes that are all one: `[T, B, *shape]`."""
    gate.to(torch.get_default_device())
    return gate(torch.ones(steps, SAMPLES, *gate.probability.shape))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.95, 1.0])
def test_gates_open_with_their_probability(p: float) -> None:
    gates = opened(StochasticGate((4,), p))
    assert set(gates.unique().tolist()) <= {0.0, 1.0}
    sigma = (p * (1 - p) / gates.numel()) ** 0.5
    assert abs(gates.mean() - p) <= 5 * sigma


def test_draws_are_independent_over_steps_samples_and_neurons() -> None:
    gates = opened(StochasticGate((4,), 0.5), steps=4) - 0.5
    draws = gates.transpose(1, 2).reshape(16, SAMPLES)
    correlation = draws @ draws.T / draws.square().sum(1).mean()
    assert (correlation - torch.eye(16)).abs().max() < 6 / SAMPLES**0.5


# The relaxation's bias at temperature 0.5: E[d relaxed / dp] at each p, which is 1 for the truth.
BIAS = {0.1: 1.12, 0.3: 0.91, 0.5: 0.86, 0.7: 0.91, 0.9: 1.12}


@pytest.mark.parametrize(("p", "bias"), BIAS.items())
def test_the_gradient_is_positive_and_as_close_as_the_relaxation_is(p: float, bias: float) -> None:
    gate = StochasticGate((4,), p)
    (3.0 * opened(gate)).mean((0, 1)).sum().backward()
    assert float(gate.probability.grad.mean()) / 3.0 == pytest.approx(bias, abs=0.02)


def test_a_gate_that_never_closes_can_learn_to() -> None:
    gate = StochasticGate((4,), 1.0)
    assert not gate.stochastic
    opened(gate).mean((0, 1)).sum().backward()
    assert gate.probability.grad.isfinite().all()
    assert (gate.probability.grad > 0).all()


def test_the_gradient_sums_over_steps_and_samples(device: torch.device) -> None:
    gate, keys = StochasticGate((3,), 0.6).to(device), 0
    set_noise(gate, "frozen", seed=keys)
    upstream = torch.rand(5, 2, 3)
    (gate(torch.ones(5, 2, 3)) * upstream).sum().backward()
    total = gate.probability.grad.clone()
    parts = torch.zeros_like(total)
    for t in range(5):
        for b in range(2):
            gate.zero_grad()
            (gate(torch.ones(5, 2, 3)) * upstream)[t, b].sum().backward()
            parts += gate.probability.grad
    assert_close_rms(parts, total)


def test_spikes_receive_their_gradient_through_the_realised_gates(device: torch.device) -> None:
    gate = StochasticGate((6,), 0.5).to(device)
    set_noise(gate, "frozen")
    spikes = torch.ones(4, 3, 6, requires_grad=True)
    passed = gate(spikes)
    passed.sum().backward()
    assert torch.equal(spikes.grad, passed)


def test_the_mean_field_passes_the_probability(device: torch.device) -> None:
    gate = StochasticGate((2,), 0.3).to(device)
    set_noise(gate, "mean")
    assert gate(torch.ones(3, 1, 2)).flatten().tolist() == pytest.approx([0.3] * 6)


def test_the_parameter_is_clipped_in_use_and_clamped_after_a_step() -> None:
    gate = StochasticGate((2,), 0.5)
    gate.probability = nn.Parameter(torch.tensor([-1.0, 2.0]))
    assert gate.opening.tolist() == pytest.approx([0.0989, 1.0])  # released gates at the floor
    gate.clamp_()
    assert gate.probability.tolist() == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize("p", [0.0, 1.1])
def test_impossible_probabilities_are_refused(p: float) -> None:
    with pytest.raises(InputError, match=r"in \[0.1, 1\]"):
        StochasticGate((2,), p)


def test_a_gate_for_another_image_size_says_so() -> None:
    with pytest.raises(InputError, match="img_size"):
        LIF(gate=StochasticGate((2, 4, 4)))(torch.rand(3, 1, 2, 8, 8))


@pytest.mark.parametrize("p", [0.3, 0.6, 0.9])
def test_the_released_rule_ascends_and_averages(p: float, device: torch.device) -> None:
    relaxed, released = StochasticGate((4,), p), StochasticGate((4,), p, rule="released")
    for gate in (relaxed, released):
        set_noise(gate, "frozen", seed=1)
        gate.to(device)(torch.ones(8, 5, 4)).sum().backward()
    assert (released.probability.grad < 0).all()
    scale = (1 - p + 1e-3) / ((1 + 1e-3) * (1 - p)) / (8 * 5)
    assert_close_rms(released.probability.grad, -scale * relaxed.probability.grad)


def test_the_released_rule_gives_nothing_to_a_gate_that_starts_at_one() -> None:
    gate = StochasticGate((4,), 1.0, rule="released")
    opened(gate).sum().backward()
    assert not gate.probability.grad.any()


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'released'"):
        StochasticGate((2,), rule="release")


@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (2, 3), (4, 2, 1), (4, 2, 3, 1), (0, 2, 3)])
def test_spikes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"with shape = \(3,\), got"):
        StochasticGate((3,))(torch.ones(shape))
