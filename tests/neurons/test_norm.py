from __future__ import annotations

import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn.neurons import LIF, NormSpike, TimeBatchNorm2d, current_settings, fused_norm


def build() -> NormSpike:
    norm = TimeBatchNorm2d(3)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    norm.running_mean.uniform_(-0.5, 0.5)
    norm.running_var.uniform_(0.5, 1.5)
    return NormSpike(norm, LIF(decay=0.9), steps=4).to(torch.get_default_device())


def test_the_fused_norm_gives_the_same_spikes_and_gradients() -> None:
    layer = build().eval()
    results = []
    for fused in (False, True):
        current = torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        current.requires_grad_()
        with fused_norm(fused):
            assert current_settings().fused_norm == fused
            spikes = layer(current)
        spikes.sum().backward()
        results.append((spikes, current.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert_close_rms(results[1][1], results[0][1])


def test_a_norm_in_train_mode_is_never_fused() -> None:
    layer = build().train()
    before = layer.norm.running_mean.clone()
    with fused_norm():
        layer(torch.randn(4, 2, 3, 5, 5))
    assert not torch.equal(before, layer.norm.running_mean)


def test_constant_currents_are_normalised_once_and_presented_at_every_step() -> None:
    layer = build().eval()
    current = torch.randn(1, 2, 3, 5, 5)
    spikes = layer(current)
    assert spikes.shape == (4, 2, 3, 5, 5)
    assert torch.equal(spikes, layer(current.expand(4, -1, -1, -1, -1)))
