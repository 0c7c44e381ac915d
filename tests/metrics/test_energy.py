"""Oracle 15: spike operations, exact at the borders."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robust_snn
from robust_snn import Victim
from robust_snn.eval import AttackSpec, Suite
from robust_snn.metrics import Operations, energy, fan_out, image_costs, operations, profile, record
from robust_snn.models.spiking_attention import SpikeProduct
from robust_snn.neurons import LIF
from zoo import BACKBONES, awake, images, narrow


def test_the_fan_out_of_a_convolution_knows_its_borders() -> None:
    fan = fan_out(nn.Conv2d(1, 5, 3, padding=1), (1, 6, 6))
    assert fan[0, 2, 3] == 9 * 5  # interior
    assert fan[0, 0, 0] == 4 * 5  # corner
    assert fan[0, 0, 3] == 6 * 5  # edge


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "dilation": 2, "padding": 2},
        {"kernel_size": 5, "padding": 1},
    ],
)
def test_the_fan_out_is_the_number_of_outputs_that_an_input_reaches(
    arguments: dict[str, Any],
) -> None:
    conv = nn.Conv2d(2, 4, bias=False, **arguments)
    nn.init.ones_(conv.weight)
    fan = fan_out(conv, (2, 7, 7))
    for index in [(0, 0, 0), (1, 3, 3), (0, 6, 2), (1, 1, 6)]:
        spike = torch.zeros(1, 2, 7, 7)
        spike[(0, *index)] = 1
        assert fan[index] == conv(spike).sum()


@pytest.mark.parametrize(
    "conv, shape",
    [
        (nn.Conv1d(2, 3, 3, padding=1), (2, 7)),
        (nn.Conv3d(2, 3, 2, stride=2), (2, 5, 4, 4)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
        (nn.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1), (2, 6)),
        (nn.ConvTranspose2d(2, 4, 3, padding=1, groups=2), (2, 5, 5)),
    ],
)
def test_the_fan_out_of_every_convolution(conv: nn.Module, shape: tuple[int, ...]) -> None:
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)
    spikes = torch.eye(torch.Size(shape).numel()).view(-1, *shape)
    assert torch.equal(fan_out(conv, shape).flatten(), conv(spikes).flatten(1).sum(1))


def test_the_fan_out_of_a_linear_layer_is_its_width() -> None:
    assert fan_out(nn.Linear(3, 7), (3,)).tolist() == [7.0] * 3


def test_energy_weighs_multiplications_and_additions() -> None:
    assert energy(Operations(spikes=0, sops=1e12, macs=0)) == pytest.approx(0.9)
    assert energy(Operations(spikes=0, sops=0, macs=1e12)) == pytest.approx(4.6)


def counted_by_hand(net: nn.Module, x: torch.Tensor) -> float:
    """Additions of vgg5, spike by spike: what every layer of weights receives."""
    with torch.no_grad(), record(net) as activity:
        net(x)
    spikes = [layer.spikes for layer in activity.layers.values()]
    convs = [s.layer for s in activity.synapses.values()]
    total = 0.0
    for index, layer in enumerate(convs[1:]):
        fired = spikes[index]
        if isinstance(layer, nn.Conv2d) and index in (0,):  # a pooling lies between
            fan = fan_out(layer, (fired.shape[2], *(side // 2 for side in fired.shape[3:])))
            fan = fan.repeat_interleave(2, 1).repeat_interleave(2, 2)
        elif isinstance(layer, nn.Conv2d):
            fan = fan_out(layer, tuple(fired.shape[2:]))
        else:
            fan = torch.tensor(float(layer.out_features))
        total += float((fired * fan).sum())
    return total / len(x)


def test_operations_of_a_network_are_those_counted_by_hand() -> None:
    net = awake(narrow("snn_vgg5"), images("snn_vgg5", 4))
    x = images("snn_vgg5", 3)
    with torch.no_grad(), record(net) as activity:
        net(x)
    found = operations(activity)
    assert found.sops == pytest.approx(counted_by_hand(net, x), rel=1e-6)
    first = net.get_submodule("stages.0.0.conv")
    assert found.macs == float(fan_out(first, (3, 16, 16)).sum()) * 4
    assert operations(activity, static="once").macs == found.macs / 4
    assert found.spikes == sum(float(a.spikes.sum()) for a in activity.layers.values()) / 3


def test_poisson_coding_needs_no_multiplication() -> None:
    net = awake(narrow("snn_wrn16_poisson"), images("snn_wrn16", 4))
    assert profile(net, images("snn_wrn16")).macs == 0


def test_a_pooled_head_adds_spikes() -> None:
    net = awake(narrow("snn_resnet19_poisson"), images("snn_resnet19"))
    assert profile(net, images("snn_resnet19")).macs == 0


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def joined(change: Callable[[Tensor, Tensor], Any]) -> Called:
    """Average pooling that a function changes, beside the largest value of every window."""

    def both(x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 2)
        out = change(pooled, F.max_pool2d(x, 2))
        return pooled if out is None else out

    return Called(both)


@pytest.mark.parametrize(
    "change, pooled, largest",
    [
        (lambda a, b: torch.cat([a, b], 1), 1, 1),
        (lambda a, b: torch.stack([a, b, a], 1), 2, 1),
        (lambda a, b: a + b, 1, 1),
        (lambda a, b: torch.add(b, a, alpha=0.3), 1, 1),
        (lambda a, b: a.add_(b), 1, 1),
        (lambda a, b: operator.iadd(a, b), 1, 1),
        (lambda a, b: operator.imul(a, 0.5) + 1, 1, 0),  # merged into weights and biases
        (lambda a, b: 3 * a / 2, 1, 0),
        (lambda a, b: F.interpolate(a, scale_factor=2), 4, 0),
        (lambda a, b: a[:, :2].flatten(1) if a.relu_() is a else None, 0.5, 0),
        (lambda a, b: a * b, None, None),
        (lambda a, b: a + 0.3 * torch.rand_like(b), None, None),
        (lambda a, b: operator.imul(a, torch.rand_like(a)), None, None),
        (lambda a, b: operator.setitem(a, (slice(None), 0), 0.37), None, None),
        (lambda a, b: a.sub_(0.05).clamp_(min=0.01), None, None),
    ],
)
def test_pooled_spikes_that_are_joined_or_changed(
    change: Any, pooled: float | None, largest: float | None
) -> None:
    net = nn.Sequential(LIF(), nn.Flatten(0, 1), joined(change), nn.Flatten(), nn.LazyLinear(7))
    x = (torch.rand(3, 2, 1, 4, 4) < 0.4).float().expand(-1, -1, 4, -1, -1) * 2
    net(x)
    found, fired = profile(net, x), (x > 0).float()
    if pooled is None or largest is None:
        assert found.sops == 0 and found.macs > 0
        return
    windows = F.max_pool2d(fired.flatten(0, 1), 2).sum()
    assert found.macs == 0
    assert found.sops == float(pooled * fired.sum() + largest * windows) * 7 / 2


@pytest.mark.parametrize(
    "pools, side",
    [
        ([nn.AvgPool2d(2)], 5),  # drops a border
        ([nn.AvgPool2d(3, 2, padding=1)], 6),
        ([nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)], 6),
        ([nn.AvgPool2d(2, ceil_mode=True)], 5),
        ([nn.AvgPool2d(2, divisor_override=3)], 4),
        ([nn.AvgPool2d((2, 3), (1, 2))], 6),
        ([nn.AdaptiveAvgPool2d(3)], 6),
        ([nn.AdaptiveAvgPool2d(3)], 7),  # windows overlap
        ([nn.AdaptiveAvgPool2d((2, 4))], 7),
        ([nn.AdaptiveAvgPool2d((None, 3))], 7),
        ([nn.AdaptiveAvgPool2d(5), nn.AdaptiveAvgPool2d(2)], 7),
        ([nn.AvgPool2d(2), nn.AvgPool2d(3, 1), nn.AdaptiveAvgPool2d(2)], 9),
        ([nn.AvgPool2d(2), nn.ReLU(), nn.ZeroPad2d(1), nn.Dropout().eval()], 5),
        ([Called(partial(F.avg_pool2d, kernel_size=2))], 5),
        ([Called(partial(F.adaptive_avg_pool2d, output_size=3))], 5),
        ([Called(partial(F.interpolate, size=3, mode="area"))], 7),
        ([Called(lambda x: x.mean((-2, -1), keepdim=True))], 3),
        ([Called(lambda x: F.avg_pool1d(x.flatten(2), 3, 2, 1)[..., None])], 3),
        ([nn.AvgPool2d(2), Called(lambda x: x.transpose(-2, -1))], 5),
    ],
)
def test_pooled_spikes_are_added(pools: list[nn.Module], side: int) -> None:
    """Every spike of a window is an addition at each synapse behind the window."""
    net = nn.Sequential(LIF(), nn.Flatten(0, 1), *pools, nn.Flatten(), nn.LazyLinear(7))
    x = (torch.rand(3, 2, 4, side, side) < 0.4).float() * 2
    net(x)
    found = profile(net, x)
    spots, paths = torch.eye(side * side).view(-1, 1, side, side), torch.eye(side * side)
    for pool in pools:  # from every pixel to those of the pooled map
        reached = (pool(spots) > 0).float()
        paths = paths @ reached.flatten(1)
        spots = torch.eye(paths.shape[1]).view(-1, 1, *reached.shape[2:])
    fired = (x > 0).float().flatten(3).sum((0, 1, 2))
    assert found.macs == 0
    assert found.sops == float(fired @ paths.sum(1)) * 7 / 2


def test_a_layer_that_a_pass_uses_twice_counts_twice() -> None:
    """As in every step of a loop; another pass begins anew, and so does every draw of a victim."""
    layer, fire = nn.Linear(4, 4), LIF(threshold=0.1)
    net = nn.Sequential(fire, layer, fire, layer)
    with torch.no_grad(), record(net) as activity:
        for _ in range(2):
            net(torch.rand(3, 2, 4))
    assert list(activity.synapses) == ["1", "1#2"] and list(activity.layers) == ["0", "0#2"]
    spikes = sum(float(layer.spikes.sum()) for layer in activity.layers.values())
    assert operations(activity).sops == spikes * 4 / 2 and operations(activity).spikes == spikes / 2
    victim = Victim(narrow("snn_vgg5_nlif"), eot=3)
    with torch.no_grad(), record(victim) as activity:
        victim(images("snn_vgg5"))
    assert not any("#" in name for name in activity.layers)


def test_binary_frames_are_spikes_and_counts_are_multiplied() -> None:
    net = awake(narrow("snn_vgg11", img_size=34, in_chans=2), torch.rand(4, 4, 2, 34, 34))
    frames = (torch.rand(2, 4, 2, 34, 34) < 0.2).float()
    assert profile(net, frames).macs == 0
    first = fan_out(net.get_submodule("stages.0.0.conv"), (2, 34, 34))
    assert profile(net, frames / 255).macs == float(first.sum()) * 4


@pytest.mark.parametrize("beside", ["binary", "counts"])
def test_what_an_image_costs_does_not_depend_on_those_beside_it(beside: str) -> None:
    net = awake(narrow("snn_vgg11", img_size=34, in_chans=2), torch.rand(4, 4, 2, 34, 34))
    frames = (torch.rand(2, 4, 2, 34, 34) < 0.2).float()
    if beside == "counts":
        frames[1] /= 255
    alone = [profile(net, frame[None]) for frame in frames]
    pairs = zip(*map(astuple, alone), strict=True)
    assert astuple(profile(net, frames)) == pytest.approx([sum(pair) / 2 for pair in pairs])
    assert (alone[1].macs > 0) == (beside == "counts") and alone[0].macs == 0
    costs = image_costs(Victim(net), frames, torch.arange(2)).picojoules * 1e-12
    assert costs.tolist() == pytest.approx([energy(one) for one in alone])


def test_closed_gates_save_operations() -> None:
    counts = []
    for p in (1.0, 0.3):
        net = awake(narrow("snn_vgg5_stog", gate_probability=p), images("snn_vgg5", 4))
        with torch.no_grad(), record(net) as activity:
            net(images("snn_vgg5"))
        counts.append(operations(activity).sops)
    assert counts[1] < counts[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_spikes_operations_and_energy(name: str) -> None:
    net = awake(narrow(name), images(name, 4))
    with torch.no_grad(), record(net) as activity:
        net(images(name))
    found = operations(activity)
    assert found.spikes > 0 and not activity.uncounted
    assert found.sops > found.spikes
    first = net.get_submodule(timm.get_pretrained_cfg(name).first_conv)
    size = images(name).shape[1:]
    of_pixels = float(fan_out(first, tuple(size)).sum()) * 4
    if name.startswith(("snn_msresnet", "snn_resformer")):  # layers on membranes multiply, too
        assert found.macs > of_pixels
    else:
        assert found.macs == of_pixels
    assert energy(found) > 0


@pytest.mark.parametrize("name", ["snn_spikformer", "snn_sdt3", "snn_resformer"])
def test_products_of_attention_are_counted(name: str) -> None:
    """As many additions as products have where the factor beside the spikes is all ones."""
    net, factors = awake(narrow(name), images(name, 4)), []
    for module in net.modules():
        if isinstance(module, SpikeProduct):
            module.register_forward_pre_hook(lambda module, args: factors.append(args))
    with torch.no_grad(), record(net) as activity:
        net(images(name))
    added = 0.0
    for args in factors:
        if len(args) == 2:  # weights @ spikes
            weights, spikes = args
            added += float((torch.ones_like(weights) @ spikes).sum())
            continue
        q, k, v = (each.flatten(3) for each in args)  # channels and tokens last
        scores = q.mT @ torch.ones_like(k)
        added += float(scores.sum() + (v @ torch.ones_like(scores).mT).sum())
    whole = operations(activity).sops
    for place in [p for p, synapse in activity.synapses.items() if synapse.sums is not None]:
        del activity.synapses[place]
    assert added > 0 and whole - operations(activity).sops == pytest.approx(
        added / len(images(name))
    )


class OwnAttention(nn.Module):
    """Weights that are no layer, and products of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.neurons = nn.Linear(4, 4), LIF()
        self.weight = nn.Parameter(torch.rand(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons(self.enter(x.flatten(1)).expand(2, -1, -1))
        return (spikes + spikes @ (spikes.mT @ spikes)).mean(0) @ self.weight.T


def test_products_that_no_layer_makes_are_named(tmp_path: Path) -> None:
    net, x = OwnAttention().eval(), torch.rand(6, 1, 2, 2)
    with torch.no_grad(), record(net) as activity:
        net(x)
    assert activity.uncounted == {"matmul"}
    suite = Suite("e", (AttackSpec("energy", "energy", "energy", steps=2),), independent=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    verdict = robust_snn.evaluate(net, x, labels, suite=suite, eps=0.1, out=tmp_path)
    assert verdict.energy is not None
    assert "no layer makes (matmul) are not counted" in verdict.energy.formula
