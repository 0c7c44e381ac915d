"""The settings of a pass: one object, nothing of it on the network, kept whole by checkpointing."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim, gradient_mode
from robust_snn.kernels import sample_keys
from robust_snn.models.readout import every_step
from robust_snn.neurons import (
    LIF,
    PassSettings,
    change_settings,
    current_settings,
    fused_norm,
    keyed,
    use_settings,
)
from robust_snn.neurons.pass_settings import layer_gradient

CURRENT = torch.rand(4, 3, 10, generator=torch.Generator().manual_seed(0))
KEYS = sample_keys(1, torch.arange(3))
CHANGES: list[dict[str, Any]] = [
    {"keys": KEYS, "mean_field": True},
    {"fused_norm": True},
    {"sparse": "auto"},
    {"every_step": True},
]


def network() -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "width": 0.125, "head_width": 8, "T": 2}
    return (
        timm.create_model("snn_vgg5_stog", num_classes=4, **size)
        .eval()
        .to(torch.get_default_device())
    )


@pytest.mark.parametrize("changes", CHANGES)
def test_settings_nest_and_come_back(changes: dict[str, Any]) -> None:
    plain = current_settings()
    assert plain == PassSettings()
    with change_settings(fused_norm=True), change_settings(**changes):
        inside = current_settings()
        assert inside.fused_norm
        assert all(getattr(inside, name) is value for name, value in changes.items())
        with use_settings(PassSettings()):
            assert current_settings() == plain
        with pytest.raises(RuntimeError), change_settings(sparse="always"):
            raise RuntimeError
        assert current_settings() is inside
    assert current_settings() is plain


def gradient(neuron: nn.Module) -> Tensor:
    current = CURRENT.to(torch.get_default_device(), copy=True).requires_grad_()
    return torch.autograd.grad(neuron(current).sum(), current)[0]


def test_a_gradient_mode_reaches_the_neurons_inside_and_no_other() -> None:
    inside, outside = LIF(gradient="ste"), LIF(gradient="ste")
    net = nn.Sequential(inside)
    with gradient_mode(net, "bptr"):
        assert torch.equal(gradient(inside), gradient(LIF(gradient="bptr")))
        assert torch.equal(gradient(outside), gradient(LIF(gradient="ste")))
        assert inside.gradient.name == "ste"
    assert torch.equal(gradient(inside), gradient(outside))
    with pytest.raises(InputError, match="did you mean 'bptr'"), gradient_mode(net, "bptrr"):
        pass


@pytest.mark.skipif(
    torch.__version__ < torch.torch_version.TorchVersion("2.12"),
    reason="earlier compilers cannot read context variables",
)
def test_a_compiled_layer_follows_the_settings() -> None:
    layer = LIF(gradient="bptt")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(gradient(compiled), gradient(layer))
    with gradient_mode(layer, "bptr"):
        assert torch.equal(gradient(compiled), gradient(LIF(gradient="bptr")))
    assert torch.equal(gradient(compiled), gradient(layer))


def test_threads_share_a_network() -> None:
    net, x = network(), torch.rand(2, 1, 8, 8)
    victims = [
        Victim(net, gradient=g, noise="frozen", seed=s) for s, g in ((1, "bptt"), (2, "hart"))
    ]
    expected = [image_gradient(victim, x) for victim in victims]
    found: list[list[Tensor]] = [[], []]

    def work(place: int) -> None:
        found[place] += [image_gradient(victims[place], x) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gradients, right in zip(found, expected, strict=True):
        assert len(gradients) == 5 and all(torch.equal(g, right) for g in gradients)


def image_gradient(victim: Victim, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(victim(x)[:, 0].sum(), x)[0]


def test_a_pass_leaves_nothing_on_the_network() -> None:
    net = network()
    before = {name: dict(vars(module)) for name, module in net.named_modules()}
    victim = Victim(net, gradient="assg", sparse="auto", output="steps")
    image = torch.rand(2, 1, 8, 8, requires_grad=True)
    victim(image).sum().backward()
    for name, module in net.named_modules():
        now = dict(vars(module))
        assert all(now[key] is value for key, value in before[name].items() if key != "layer")
    assert victim.statistics.layers
    assert not victim.replace().statistics.layers


def test_scoring_ignores_the_settings_of_its_caller(device: torch.device) -> None:
    net, keys = network(), KEYS.to(device)
    victim, x, ids = Victim(net), torch.rand(2, 1, 8, 8), torch.arange(2)
    expected = victim.sample(x, ids)
    with gradient_mode(net, "activation(relu)"), fused_norm(), every_step(net), keyed(keys):
        assert torch.equal(victim.sample(x, ids), expected)


@pytest.mark.parametrize("mode", ["bptr", "assg", "bptt(surrogate=atan(alpha=4))"])
def test_gradient_checkpointing_recomputes_under_the_same_settings(
    mode: str, device: torch.device
) -> None:
    """The backward pass runs outside of the context, as a training step's does."""
    gradients = []
    for checkpointing in (False, True):
        net = network()
        net.set_grad_checkpointing(checkpointing)
        x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with gradient_mode(net, mode), keyed(KEYS.to(device)), fused_norm():
            loss = net(x)[:, 0].sum()
        gradients.append(torch.autograd.grad(loss, [x, *net.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_one_name_for_it() -> None:
    assert robust_snn.gradient_mode is gradient_mode
    assert layer_gradient(LIF(gradient="hart")).mode.name == "hart"
