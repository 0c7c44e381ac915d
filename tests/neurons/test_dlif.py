from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn.neurons import DLIF, LIF
from robust_snn.utils.errors import InputError


def simulate(current: torch.Tensor, factor: list[float], form: str, decay: float) -> list[float]:
    membrane, spikes = 0.0, []
    for step, f in zip(current.tolist(), factor, strict=True):
        v = decay * f * membrane + step if form == "membrane" else decay * membrane + f * step
        spikes.append(float(v >= 1))
        membrane = 0.0 if v >= 1 else v
    return spikes


@pytest.mark.parametrize("form", ["membrane", "input"])
def test_spikes_follow_the_paper_and_the_code(form: str) -> None:
    factor = [0.5, 1.5, 2.0, 0.25, 1.0, 1.25]
    neuron = DLIF(6, form=form, decay=0.5)
    neuron.factor = nn.Parameter(torch.tensor(factor))
    current = (torch.rand(6, 1, 20) * 16).round() / 16
    spikes = neuron(current)
    for n in range(20):
        assert spikes[:, 0, n].tolist() == simulate(current[:, 0, n], factor, form, 0.5)


@pytest.mark.parametrize("form", ["membrane", "input"])
def test_factors_of_one_make_a_plain_neuron(form: str, device: torch.device) -> None:
    current = torch.rand(5, 2, 7)
    assert torch.equal(DLIF(5, form=form).to(device)(current), LIF(decay=0.99)(current))


def test_the_two_forms_are_different_neurons() -> None:
    current, spikes = torch.rand(5, 2, 50), []
    for form in ("membrane", "input"):
        neuron = DLIF(5, form=form)
        neuron.factor = nn.Parameter(torch.full((5,), 0.6))
        spikes.append(neuron(current))
    assert not torch.equal(*spikes)


def test_the_gradient_of_an_input_factor_is_the_current_times_its_gradient(
    device: torch.device,
) -> None:
    neuron = DLIF(4, form="input").to(device)
    current = torch.rand(4, 3, 6, requires_grad=True)
    (neuron(current) * torch.rand(4, 3, 6)).sum().backward()
    # with factors of one, g_factor[t] = sum of current * g_current
    expected = (current.detach() * current.grad).sum((1, 2))
    assert_close_rms(neuron.factor.grad, expected)


def test_the_first_membrane_factor_acts_on_an_empty_membrane(device: torch.device) -> None:
    neuron = DLIF(4).to(device)
    neuron(torch.rand(4, 3, 6)).sum().backward()
    assert neuron.factor.grad[0] == 0
    assert neuron.factor.grad[1:].all()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'membrane'"):
        DLIF(4, form="membran")
    with pytest.raises(InputError, match="build the model with T=3"):
        DLIF(4)(torch.rand(3, 1, 2))
    with pytest.raises(InputError, match="at least 1"):
        DLIF(0)
