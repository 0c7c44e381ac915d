"""SpikingJelly's networks as people have them: from its zoo, converted, with other backends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from helpers import assert_close_rms, logits_and_gradient
from robust_snn import adapt
from robust_snn.foreign.library import find_nodes

pytest.importorskip("spikingjelly", reason="needs spikingjelly")
from spikingjelly.activation_based import ann2snn, functional, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet

T = 2
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def author(net: nn.Module, x: Tensor, multi: bool) -> Tensor:
    functional.reset_net(net)
    out = net(x.expand(T, *x.shape)) if multi else torch.stack([net(x) for _ in range(T)])
    functional.reset_net(net)
    return out.mean(0)


def lively(net: nn.Module) -> nn.Module:
    """The net with batch norms that let neurons of every layer fire."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(2.0)
            module.bias.data.fill_(0.8)
    return net.eval()


ARGUMENTS: dict[str, Any] = {
    "spiking_neuron": neuron.LIFNode,
    "surrogate_function": surrogate.ATan(),
    "detach_reset": True,
    "num_classes": 4,
}
ZOO: dict[str, Any] = {
    "SEW": lambda: sew_resnet.SEWResNet(
        sew_resnet.BasicBlock, [1, 1, 1, 1], cnf="ADD", **ARGUMENTS
    ),
    "ResNet": lambda: spiking_resnet.SpikingResNet(
        spiking_resnet.BasicBlock, [1, 1, 1, 1], **ARGUMENTS
    ),
}


@pytest.mark.parametrize("multi", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, multi: bool) -> None:
    torch.manual_seed(0)
    net = lively(ZOO[name]())
    functional.set_step_mode(net, "m" if multi else "s")
    logits, expected = logits_and_gradient(lambda x: author(net, x, multi), IMAGES)
    victim = adapt(net, T=T)
    found, own = logits_and_gradient(victim, IMAGES)
    assert logits.std() > 0 and torch.allclose(found, logits, atol=1e-6)
    assert torch.equal(victim.sample(IMAGES, torch.arange(2)), logits)
    assert_close_rms(own, expected)
    assert victim.net.whole_refusal is None
    for mode in ("hart", "pdsg"):
        assert logits_and_gradient(victim.replace(gradient=mode), IMAGES)[1].any()


@pytest.mark.parametrize("recipe", ["max", "99.9%"])
def test_converted_network(recipe: str) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2))
    ann += nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 4))
    data = DataLoader([(image, 0) for image in IMAGES], batch_size=2)
    made = ann2snn.RateCodingRecipe(dataloader=data, mode=recipe)
    net = ann2snn.FXConverter(recipe=made).convert(ann.eval())
    logits, expected = logits_and_gradient(lambda x: author(net, x, False), IMAGES)
    victim = adapt(net, T=T)
    found, own = logits_and_gradient(victim, IMAGES)
    assert torch.allclose(found, logits, atol=1e-6) and victim.net.refusals == {}
    assert_close_rms(own, expected)


class HandsItOn(nn.Module):
    """A block that keeps the surrogate which its neurons were built with."""

    def __init__(self) -> None:
        super().__init__()
        self.surrogate_function, self.v_threshold = surrogate.ATan(), 1.0
        self.linear, self.lif = nn.Linear(8, 8), neuron.LIFNode()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.linear(x))


def test_a_block_that_keeps_a_surrogate_is_no_neuron() -> None:
    net = nn.Sequential(HandsItOn(), HandsItOn())
    assert list(find_nodes(net)) == ["0.lif", "1.lif"]


class Compiled(neuron.IFNode):
    """A neuron whose compiled backend knows one surrogate, and is not here."""

    def __init__(self) -> None:
        super().__init__()
        vars(self)["_backend"] = "cupy"

    @property
    def backend(self) -> str:
        return str(vars(self)["_backend"])

    def single_step_forward(self, x: Tensor) -> Tensor:
        if self.backend != "torch":
            raise RuntimeError("CuPy is not here")
        out: Tensor = super().single_step_forward(x)
        return out


class CompiledAttribute(Compiled):
    """The same with an attribute, as in 0.0.0.0.12."""

    backend = "cupy"  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Compiled, CompiledAttribute])
def test_networks_run_on_pytorch_whatever_their_backend(kind: type[neuron.IFNode]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), kind())
    victim = adapt(net, T=T)
    logits, found = logits_and_gradient(victim, IMAGES)
    assert torch.equal(victim.sample(IMAGES, torch.arange(2)), logits) and found.any()
    assert net[2].backend == "cupy"


class OfFourDimensions(neuron.IFNode):
    """It cannot be tried on a single number."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError("expected images")
        return super().forward(x)


def test_what_cannot_be_told_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    adapt(nn.Sequential(nn.Conv2d(3, 4, 3), OfFourDimensions(), nn.Flatten()), T=T)
    assert "1 neurons of Sequential cannot be tried alone" in caplog.text


class OwnLoop(nn.Module):
    """A layer of neurons that a network shows the image to itself, step by step."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.node, self.last = nn.Linear(36, 12), node, nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        current = 3 * self.first(x.flatten(1)) + 0.5
        return torch.stack([self.last(self.node(current)) for _ in range(4)]).mean(0)


class ByHand(nn.Module):
    """A neuron that charges and resets as it is told."""

    def __init__(self, charge: Any, reset: Any) -> None:
        super().__init__()
        self.charge, self.clear, self.v = charge, reset, torch.zeros(1)
        self.fire = surrogate.ATan()

    def forward(self, x: Tensor) -> Tensor:
        v = self.charge(self.v, x)
        spikes: Tensor = self.fire(v - 1)
        self.v = self.clear(v, spikes)
        return spikes

    def reset(self) -> None:
        self.v = torch.zeros(1)


LOOPED: dict[str, tuple[Any, Any, Any]] = {
    "IF": (neuron.IFNode, lambda v, x: v + x, lambda v, s: v * (1 - s)),
    "LIF": (neuron.LIFNode, lambda v, x: v + (x - v) / 2, lambda v, s: v * (1 - s)),
    "LIF, soft reset": (
        lambda: neuron.LIFNode(v_reset=None, decay_input=False),
        lambda v, x: v / 2 + x,
        lambda v, s: v - s,
    ),
}


@pytest.mark.parametrize("name", LOOPED)
def test_neurons_in_a_loop_of_the_network_take_every_mode(name: str) -> None:
    build, *dynamics = LOOPED[name]
    images = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    victim = adapt(OwnLoop(build()), images=images)
    plain = adapt(OwnLoop(ByHand(*dynamics)), images=images)
    for mode in ("bptt", "bptr", "rga", "hart", "bptt(detach_reset=true)"):
        found, expected = (
            logits_and_gradient(v.replace(gradient=mode), images) for v in (victim, plain)
        )
        assert torch.equal(found[0], expected[0])
        assert_close_rms(found[1], expected[1])
