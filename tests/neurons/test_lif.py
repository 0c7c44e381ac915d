from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch

from robust_snn.neurons import DLIF, LIF, NoisyLIF, StochasticGate, set_noise
from robust_snn.utils.errors import InputError


def simulate(
    current: list[float], decay: float, threshold: float, reset: str, gain: float, v_reset: float
) -> list[float]:
    """One neuron, written as the equations stand."""
    membrane, spikes = v_reset if reset == "hard" else 0.0, []
    for step in current:
        v = decay * membrane + gain * step
        s = float(v >= threshold)
        membrane = (v_reset if s else v) if reset == "hard" else v - threshold * s
        spikes.append(s)
    return spikes


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize(
    ("decay", "threshold", "gain", "v_reset"),
    [(1.0, 1.0, 1.0, 0.0), (0.5, 1.0, 1.0, 0.0), (0.75, 0.5, 0.25, 0.0), (0.5, 1.0, 2.0, -0.5)],
)
def test_spikes_follow_the_equations(
    reset: str, decay: float, threshold: float, gain: float, v_reset: float
) -> None:
    neuron = LIF(decay, threshold, reset, gain, v_reset)
    current = (torch.randn(9, 2, 3) * 8).round() / 8  # exact in binary, so no rounding can differ
    spikes = neuron(current)
    for b in range(2):
        for n in range(3):
            trace = current[:, b, n].tolist()
            expected = simulate(trace, decay, threshold, reset, gain, v_reset)
            assert spikes[:, b, n].tolist() == expected


def test_a_membrane_at_the_threshold_fires() -> None:
    assert LIF()(torch.full((3, 1, 1), 1.0)).flatten().tolist() == [1.0, 1.0, 1.0]


def test_an_integrate_and_fire_neuron_fires_every_ceil_of_threshold_over_current() -> None:
    for current, period in [(1.0, 1), (0.6, 2), (0.5, 2), (0.4, 3), (0.25, 4)]:
        spikes = LIF()(torch.full((1, 1, 1), current), steps=12)
        assert spikes.sum() == 12 // period


def test_constant_currents_are_presented_at_every_step() -> None:
    neuron, current = LIF(decay=0.9), torch.rand(1, 2, 5)
    assert torch.equal(neuron(current, steps=6), neuron(current.expand(6, -1, -1)))


def test_a_neuron_keeps_nothing_between_calls() -> None:
    neuron, current = LIF(decay=0.9), torch.rand(4, 2, 5, requires_grad=True)
    first = neuron(current)
    first.sum().backward()
    assert torch.equal(first, neuron(current))
    assert not neuron.state_dict()
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(first, twin(current))


def test_gradients_exist_in_eval_mode() -> None:
    current = torch.rand(4, 2, 5, requires_grad=True)
    LIF().eval()(current).sum().backward()
    assert current.grad is not None
    assert current.grad.abs().sum() > 0


def test_a_gate_inside_a_neuron_equals_a_gate_behind_it(device: torch.device) -> None:
    gate = StochasticGate((5,), probability=0.5).to(device)
    set_noise(gate, "frozen")
    current = torch.rand(6, 3, 5)
    assert torch.equal(LIF(gate=gate)(current), gate(LIF()(current)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 0.0}, "decay must be in"),
        ({"decay": 1.5}, "decay must be in"),
        ({"threshold": -1.0}, "threshold must be positive"),
        ({"gain": 0.0}, "gain must be positive"),
        ({"v_reset": 1.0}, "v_reset must be below"),
        ({"reset": "hardd"}, "did you mean 'hard'"),
        ({"backend": "tritn"}, "did you mean 'triton'"),
        ({"gradient": "bppt"}, "did you mean 'bptt'"),
        ({"gradient": 3}, "gradient must be"),
        ({"decay": "0.5"}, "decay must be a number"),
        ({"decay": None}, "decay must be a number"),
        ({"decay": 10**400}, "decay must be a number"),
        ({"threshold": [1.0]}, "threshold must be a number"),
        ({"threshold": math.inf}, "threshold must be a number"),
        ({"v_reset": -math.inf}, "v_reset must be a number"),
        ({"v_reset": math.nan}, "v_reset must be a number"),
        ({"gate": 0.5}, "gate must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LIF(**arguments)


@pytest.mark.parametrize("neurons", [LIF(), DLIF(4), NoisyLIF(), NoisyLIF(form="double")])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_currents_without_axes_of_time_and_batch_are_refused(neurons, shape):
    with pytest.raises(InputError, match=r"currents must be \[T, B, \.\.\.\], got"):
        neurons(torch.zeros(shape))
