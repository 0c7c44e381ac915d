from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.metrics import Activity, firing_rates, mean_opening, ms_mppd, record
from robust_snn.neurons import LIF
from robust_snn.utils.errors import InputError
from zoo import NAMES, awake, images, narrow


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.mark.parametrize("name", [name for name in NAMES if "vgg5" in name or "sew" in name])
def test_recording_changes_nothing_and_leaves_nothing(name: str) -> None:
    net, x = awake(narrow(name), images(name, 4)), images(name)
    before = net(x)
    with record(net) as activity:
        assert torch.equal(before, net(x))
    assert hooks(net) == 0
    assert torch.equal(before, net(x))
    assert set(activity.layers) == {n for n, m in net.named_modules() if isinstance(m, LIF)}
    assert set(activity.synapses) == {
        n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }


def test_hooks_go_when_the_network_fails() -> None:
    net = narrow("snn_vgg5")
    with pytest.raises(InputError), record(net):
        net(torch.rand(1, 1, 16, 16))
    assert hooks(net) == 0


@pytest.mark.parametrize("name", ["snn_vgg5", "snn_vgg5_dlif", "snn_wrn16"])
def test_what_is_recorded_explains_the_spikes(name: str) -> None:
    form = {"dlif_form": "input"} if name.endswith("dlif") else {}
    net = awake(narrow(name, **form), images(name, 4))
    for module in net.modules():
        if hasattr(module, "factor"):
            nn.init.uniform_(module.factor, 0.8, 1.2)
    with torch.no_grad(), record(net) as activity:
        net(images(name))
    for layer in activity.layers.values():
        assert torch.equal(LIF(float(layer.decay[0]))(layer.drive.contiguous()), layer.spikes)


def test_a_fused_norm_is_seen_through() -> None:
    net, x = awake(narrow("snn_vgg5"), images("snn_vgg5", 4)), images("snn_vgg5")
    with torch.no_grad(), record(net) as plain:
        net(x)
    victim = Victim(net)
    with torch.no_grad(), record(victim) as fused:
        victim(x)
    for name, layer in plain.layers.items():
        assert_close_rms(fused.layers[f"net.{name}"].current, layer.current, 1e-4)


def test_recorded_currents_can_be_a_loss() -> None:
    net, x = awake(narrow("snn_vgg5"), images("snn_vgg5", 4)), images("snn_vgg5")
    currents = []
    for image in (x, x * 0.9):
        with record(net) as activity:
            net(image)
        currents.append(activity.last.current)
    ms_mppd(currents[0].detach(), currents[1], 0.99, "mean").mean().backward()
    assert net.get_submodule("stages.0.0.conv").weight.grad.any()


def test_rates_and_openings() -> None:
    net = awake(narrow("snn_vgg5_stog", gate_probability=0.7), images("snn_vgg5", 4))
    with torch.no_grad(), record(net) as activity:
        net(images("snn_vgg5"))
    rates = firing_rates(activity)
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert rates["stages.0.0.act.neuron"] > 0
    assert mean_opening(net) == pytest.approx(0.7)
    assert mean_opening(narrow("snn_vgg5")) == 1.0


def test_the_last_layer_needs_a_recording() -> None:
    with pytest.raises(InputError, match="nothing is recorded"):
        _ = Activity().last
