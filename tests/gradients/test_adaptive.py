"""PDSG and ASSG: what their sharpness depends on, and when their statistics restart."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from helpers import assert_close_rms
from loops import BACKENDS, run
from robust_snn.gradients import GradientMode, parse_mode
from robust_snn.gradients.modes import ASSG
from robust_snn.kernels import (
    Dynamics,
    LayerStatistics,
    SharpnessByDistance,
    SharpnessMemory,
    WidthBySpread,
    spiking_loop,
)
from robust_snn.kernels.spiking.surrogate_shapes import SHARES
from robust_snn.neurons.pass_settings import gradient_mode, layer_gradient


def _gradient(current, upstream, mode, backend="auto"):
    dynamics = Dynamics(0.5)
    rule = parse_mode(mode).rule(dynamics)
    return run(current, upstream, dynamics, rule, backend)[1]["current"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sample", [(7,), (3, 4, 5)])
def test_pdsg_per_sample_ignores_batch_mates(backend, sample):
    current, upstream = torch.randn(2, 4, 3, *sample)
    together = _gradient(current, upstream, "pdsg(scope=sample)", backend)
    alone = _gradient(current[:, 1:2], upstream[:, 1:2], "pdsg(scope=sample)", backend)
    assert_close_rms(together[:, 1:2], alone, 1e-6)
    mixed = _gradient(current, upstream, "pdsg(scope=batch)", backend)
    split = _gradient(current[:, 1:2], upstream[:, 1:2], "pdsg(scope=batch)", backend)
    assert not torch.allclose(mixed[:, 1:2], split)
    order = torch.tensor([2, 0, 1])
    swapped = _gradient(current[:, order], upstream[:, order], "pdsg(scope=batch)", backend)
    assert_close_rms(swapped, mixed[:, order], 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["pdsg(scope=sample)", "pdsg(scope=batch)", "assg", "hart", "rga"])
@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 3), (2, 3, 0)])
def test_empty_currents_have_empty_gradients(mode, shape, backend):
    current = torch.zeros(shape)
    assert _gradient(current, current, mode, backend).shape == shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["pdsg(scope=sample)", "pdsg(scope=batch)", "assg", "hart", "rga"])
def test_one_neuron_without_an_axis(backend, mode):
    """Currents `[T, B]` are those of one neuron, `[T, B, 1]`."""
    current, upstream = torch.randn(2, 5, 3)
    wide = _gradient(current[..., None], upstream[..., None], mode, backend)
    assert torch.equal(_gradient(current, upstream, mode, backend), wide[..., 0])


def test_pdsg_width():
    z = torch.randn(3, 4, 5, 6, 7)
    for scope, pooled in (("batch", (0, 1, 3, 4)), ("sample", (0, 3, 4))):
        for shifted in (z, z + 3):
            width = 1 / WidthBySpread(scope).recursion(shifted).sharpness
            assert_close_rms(width[2:], z.std(pooled, keepdim=True), 1e-5)
    single = WidthBySpread("sample").recursion(torch.randn(1, 1, 1)).sharpness
    assert torch.equal(single, torch.ones(1, 1, 1))


def test_assg_reaches_its_degree_of_vanishing():
    """Without memory or slack the sharpness puts a share `a` of the surrogate inside |z|."""
    z = torch.randn(4, 2, 50)
    statistics = LayerStatistics(SharpnessMemory(), "")
    rule = SharpnessByDistance("triangle", 1 - 0.15**0.5, 0.0, 0.0, statistics)
    reach = rule.recursion(z).sharpness * z.abs()
    assert (2 * reach - reach**2).median().item() == pytest.approx(0.85, abs=2e-3)


@pytest.mark.parametrize("family", SHARES)
def test_the_mean_distance_keeps_the_degree_of_vanishing_below_its_aim(family):
    """Jensen's inequality, of which ASSG makes its sharpness: the degree is concave in |z|."""
    z = torch.randn(4000).abs() * torch.rand(4000)
    sharpness = SHARES[family].distance(0.85) / z.mean()
    assert 0.3 < SHARES[family].within(sharpness * z).mean() < 0.85


def test_assg_moves_only_with_gradients_and_keeps_layers_apart():
    mode, memory = ASSG(), SharpnessMemory()
    current = torch.randn(4, 2, 9)
    with torch.no_grad():
        rule = mode.rule(Dynamics(), LayerStatistics(memory, "a"))
        spiking_loop(current, Dynamics(), rule)
    assert not memory.layers
    for layer, scale in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
        leaf = (scale * current).requires_grad_()
        spiking_loop(leaf, Dynamics(), mode.rule(Dynamics(), LayerStatistics(memory, layer)))
    assert set(memory.layers) == {"a", "b"}
    memory.restart()
    assert not memory.layers


def test_assg_statistics_follow_the_images():
    memory = SharpnessMemory()
    images = torch.rand(3, 1, 4, 4)
    distance = torch.rand(5, 3, 7)
    memory.observe(images)
    first = [running.clone() for running in memory.update("layer", distance, 0.9)]
    memory.observe(images)  # another EOT draw of the same iterate
    assert torch.equal(memory.update("layer", 2 * distance, 0.9)[0], first[0])
    memory.observe(images + 0.01)  # the attack has moved
    moved = memory.update("layer", distance, 0.9)[0].clone()
    assert_close_rms(moved, 0.9 * first[0] + 0.1 * distance)
    other = images.clone()
    other[1] = 1 - images[1].round()
    memory.observe(other)
    after = memory.update("layer", distance, 0.9)[0]
    assert_close_rms(after[:, 1], 0.9 + 0.1 * distance[:, 1])
    assert_close_rms(after[:, 0], 0.9 * moved[:, 0] + 0.1 * distance[:, 0])
    memory.observe(other[:2])  # a smaller batch starts again
    assert not memory.layers


def test_assg_repeated_backward_is_identical_and_copies_start_empty():
    memory = SharpnessMemory()
    current = torch.randn(4, 2, 9, requires_grad=True)
    rule = ASSG().rule(Dynamics(), LayerStatistics(memory, "a"))
    spikes = spiking_loop(current, Dynamics(), rule)
    first, second = (
        torch.autograd.grad(spikes.sum(), current, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)
    assert memory.layers
    for twin in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert not twin.layers


class Neuron(nn.Module):
    def __init__(self):
        super().__init__()
        self.gradient = parse_mode("bptt")


def test_gradient_mode_names_layers_and_restores():
    net = nn.Sequential(Neuron(), nn.Sequential(Neuron()))
    neurons, mode = (net[0], net[1][0]), ASSG()
    with gradient_mode(net, mode):
        inside = [layer_gradient(neuron) for neuron in neurons]
        assert all(found.mode == mode for found in inside)
        assert [found.statistics.layer for found in inside] == ["0", "1.0"]
        assert inside[0].statistics.memory is inside[1].statistics.memory
        with gradient_mode(net[1], "bptr"):
            assert [layer_gradient(neuron).mode.name for neuron in neurons] == ["assg", "bptr"]
        assert layer_gradient(neurons[1]).mode == mode
        assert [neuron.gradient for neuron in neurons] == [parse_mode("bptt")] * 2
    assert [layer_gradient(neuron).mode for neuron in neurons] == [parse_mode("bptt")] * 2
    with pytest.raises(TypeError):
        GradientMode().rule(Dynamics())


@pytest.mark.parametrize("levels, expected", [(0, [0, 0.3, 1.0, 2.0]), (4, [0, 0.25, 1.0, 1.0])])
def test_activation_replaces_spikes_by_rates(levels, expected):
    mode = "activation(relu)" if levels == 0 else f"activation(qcfs(levels={levels}))"
    current = torch.tensor([-1.0, 0.15, 0.5, 1.0]).expand(6, 2, 4)
    dynamics = Dynamics(0.9, threshold=0.5)
    rule = parse_mode(mode).rule(dynamics)
    spikes, gradients = run(current, torch.ones(6, 2, 4), dynamics, rule, "auto")
    assert_close_rms(spikes, torch.tensor(expected).expand(6, 2, 4))
    last = 2.0 if levels == 0 else 0.0
    assert_close_rms(gradients["current"][0, 0, [0, 1, 3]], torch.tensor([0.0, 2.0, last]))
