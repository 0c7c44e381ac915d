"""How much one attack step launches on a GPU, counted without one."""

from __future__ import annotations

import pytest
import timm
import torch

from launches import counted_kernels
from robust_snn import Victim
from robust_snn.kernels.convolution import api

BUDGET = 60
pytestmark = pytest.mark.cpu_only  # it counts what a GPU would launch
HALF = {"bf16": True, "channels_last": True}
MODES = ("bptt", "bptr", "rga", "hart", "ste", "bptt(save=compact)")


def counted_step(monkeypatch, name, **settings):
    """What the second forward and backward pass of a victim launch; the first fills caches."""
    monkeypatch.setattr(api, "_is_product", lambda *_: False)  # what a GPU does
    net = timm.create_model(name, T=8, width=0.25).eval()
    count = counted_kernels(monkeypatch)
    victim = Victim(net, **settings)
    for _ in range(2):
        x = torch.rand(2, 3, 32, 32, requires_grad=True)
        with count() as forward:
            logits = victim(x)
        with count() as backward:
            torch.autograd.grad(logits, x, torch.ones_like(logits))
    return forward, backward


@pytest.mark.parametrize("settings", [{}, HALF], ids=["float32", "bf16, channels-last"])
@pytest.mark.parametrize("name", ["snn_wrn16", "snn_wrn16_stog"])
def test_an_attack_step_keeps_to_the_budget(name, settings, monkeypatch):
    for passed in counted_step(monkeypatch, name, **settings):
        assert passed.total <= BUDGET, passed.counts
        assert not passed.synchronisations, passed.counts


@pytest.mark.parametrize("mode", MODES)
def test_modes_launch_no_more(mode, monkeypatch):
    for passed in counted_step(monkeypatch, "snn_wrn16", gradient=mode):
        assert passed.total <= BUDGET, passed.counts
        assert not passed.synchronisations, passed.counts


def test_channels_last_activations_are_copied_by_no_spiking_layer(monkeypatch):
    """Images are laid out once, and so are the gradients of the readout and of the images."""
    forward, backward = counted_step(monkeypatch, "snn_wrn16", **HALF)
    assert forward.counts["clone"] == 1
    assert backward.counts["clone"] + backward.counts["copy_"] == 2


@pytest.mark.parametrize("name", ["snn_vgg5_feel", "snn_vgg5_ilif", "snn_vgg5_hosnn"])
def test_neurons_of_their_own_numbers_are_one_kernel_a_layer(name, monkeypatch):
    forward, backward = counted_step(monkeypatch, name)
    assert forward.counts["spiking_forward"] == backward.counts["spiking_backward"] == 5
    for passed in (forward, backward):
        assert passed.total <= BUDGET, passed.counts
        assert not passed.synchronisations, passed.counts
