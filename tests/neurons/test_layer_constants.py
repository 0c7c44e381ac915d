"""Constants of all layers at once: the bits that each layer computes by itself."""

from __future__ import annotations

import torch

from robust_snn.neurons import StochasticGate, TimeBatchNorm2d, layer_constants
from zoo import narrow


def _network() -> torch.nn.Module:
    net = narrow("snn_wrn16_stog").eval()
    for module in net.modules():
        if isinstance(module, TimeBatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, StochasticGate):
            module.probability.data.uniform_(-0.2, 1.3)  # not clamped yet
    return net


def test_layers_would_compute_the_same_bits() -> None:
    net = _network()
    for _ in range(2):
        constants = layer_constants([*net.modules()])
        norms = [m for m in net.modules() if isinstance(m, TimeBatchNorm2d)]
        gates = [m for m in net.modules() if isinstance(m, StochasticGate)]
        assert set(constants.affine) == set(norms) and set(constants.opening) == set(gates)
        for norm in norms:
            for got, wanted in zip(constants.affine[norm], norm.affine_map(), strict=True):
                assert torch.equal(got, wanted) and not got.requires_grad
            norm.weight.data.mul_(2)  # which no version counter tells of
        for gate in gates:
            assert torch.equal(constants.opening[gate], gate.opening)


def test_weights_are_laid_out_as_activations_are() -> None:
    net = _network()
    weights = layer_constants([*net.modules()], torch.bfloat16).weights
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert set(weights) == set(convolutions)
    for module in convolutions:
        assert torch.equal(weights[module], module.weight.to(torch.bfloat16))
        assert weights[module].is_contiguous(memory_format=torch.channels_last)


def test_a_network_without_layers_has_no_constants() -> None:
    assert layer_constants([torch.nn.ReLU()], torch.float32) == ({}, {}, {})
