"""Convolutions over time: the backward pass that runs once, and where it must not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.kernels import convolution, spiking
from robust_snn.neurons import StochasticGate
from zoo import awake, images, narrow

ONCE = "bptr", "rga", "hart"


@pytest.fixture
def batches(monkeypatch) -> list[int]:
    """Batch sizes of the convolutions' backward passes."""
    seen: list[int] = []
    real = convolution.conv2d_input

    def spy(shape, *arguments):
        seen.append(shape[0])
        return real(shape, *arguments)

    monkeypatch.setattr(convolution, "conv2d_input", spy)
    return seen


def _every_step(monkeypatch) -> None:
    """Takes the shortcut away: what is left is the rule as it is written."""
    monkeypatch.setattr(convolution, "same_at_every_step", lambda stack: False)
    monkeypatch.setattr(spiking.fused, "_gives_same_steps", lambda *arguments: False)


def _gradient(victim: Victim, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(victim(x), torch.arange(len(x)))
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("gradient", ONCE)
@pytest.mark.parametrize("name", ["snn_wrn16", "snn_resnet18", "snn_vgg5", "snn_vggsnn"])
def test_rate_modes_run_backward_once(name, gradient, batches, monkeypatch):
    x = images(name)
    victim = Victim(awake(narrow(name), x), gradient=gradient)
    got = _gradient(victim, x)
    assert set(batches) == {len(x)}
    batches.clear()
    _every_step(monkeypatch)
    expected = _gradient(victim, x)
    assert set(batches) == {len(x), 4 * len(x)}  # the stem sees the image once anyway
    assert expected.abs().sum() > 0
    assert_close_rms(got, expected)


@pytest.mark.parametrize(
    "name, gradient, once",
    [
        ("snn_vgg5", "bptt", False),
        ("snn_vgg5_stog", "bptr", False),  # gates differ between the steps
        ("snn_vgg5_stog", "hart", True),  # whose rule averages over time by itself
        ("snn_vgg5_nlif", "bptr", True),  # noise moves spikes, which enter by whether they came
        ("snn_sew7b", "bptr", False),  # pooling takes the largest of each step
        ("snn_resnet18_dlif", "rga", True),
    ],
)
def test_once_only_where_exact(name, gradient, once, batches, monkeypatch):
    x = images(name)
    net = awake(narrow(name), x)
    for gate in (m for m in net.modules() if isinstance(m, StochasticGate)):
        gate.probability.data.fill_(0.5)
    victim = Victim(net, gradient=gradient, noise="frozen")
    got = _gradient(victim, x)
    assert (max(batches) == len(x)) == once
    _every_step(monkeypatch)
    assert_close_rms(got, _gradient(victim, x))


def test_factors_per_step_are_not_constant(batches, monkeypatch):
    x = images("snn_vgg5_dlif")
    net = awake(narrow("snn_vgg5_dlif", dlif_form="input"), x)
    for name, parameter in net.named_parameters():
        if name.endswith("factor"):
            parameter.data.uniform_(0.5, 1.5)
    victim = Victim(net, gradient="hart")
    got = _gradient(victim, x)
    assert max(batches) > len(x)
    _every_step(monkeypatch)
    assert_close_rms(got, _gradient(victim, x))


def test_second_derivatives_see_every_step():
    x = torch.randn(3, 1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    module = torch.nn.Conv2d(2, 4, 3, padding=1).double().requires_grad_(False)

    def layer(x):
        return convolution.convolve(x, module).square()

    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))
