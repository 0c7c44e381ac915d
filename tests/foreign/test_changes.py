"""A network that is changed after it was adapted: followed as if adapted anew, or refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, Victim, adapt
from robust_snn.foreign import ForeignSNN
from tests.foreign import own_step

IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
MODES = ("own", "bptt", "bptr", "rga", "hart", "pdsg")
REFUSED = r"was changed since it was adapted: .*adapt the net again"


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.width = width
        return (z >= 0).to(z)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return g * (ctx.width - z.abs()).clamp(min=0), None


class Lif(nn.Module):
    """A neuron that somebody wrote, whose leak is learnt."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.width = 1.0
        self.decay = nn.Parameter(torch.tensor(0.5))

    def forward(self, v: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        v = self.decay * v + current
        spikes = Fire.apply(v - self.threshold, self.width)
        return spikes, v - self.threshold * spikes


class Written(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 3))
        self.neuron = Lif()
        self.T = 6
        self.last = 0  # moves by itself

    def forward(self, x: Tensor) -> Tensor:
        self.last = len(x)
        v, out = torch.zeros(()), torch.zeros(())
        for _ in range(self.T):
            spikes, v = self.neuron(v, self.layers[0](x.flatten(1)))
            out = out + self.layers[1](spikes)
        return out


def spikingjelly() -> nn.Module:
    neuron, surrogate = (
        pytest.importorskip(f"spikingjelly.activation_based.{name}")
        for name in ("neuron", "surrogate")
    )
    surrogates = [surrogate.ATan() for _ in range(2)]  # by default they share one
    neurons = [neuron.LIFNode(surrogate_function=each) for each in surrogates]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), neurons[0], nn.Linear(12, 8), neurons[1], nn.Linear(8, 3)
    )


def snntorch() -> nn.Module:
    leaky = pytest.importorskip("snntorch").Leaky
    neurons = [leaky(beta=0.5, init_hidden=True) for _ in range(2)]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), neurons[0], nn.Linear(12, 8), neurons[1], nn.Linear(8, 3)
    )


def brought(make: Callable[[], nn.Module]) -> nn.Module:
    """A network all of whose layers fire."""
    torch.manual_seed(0)
    net = make()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(4)
                layer.bias.add_(0.3)
    return net


def adapted(net: nn.Module, **settings: Any) -> Victim:
    return adapt(net, T=None if isinstance(net, Written) else 6, images=IMAGES, **settings)


def answers(victim: Victim, mode: str) -> tuple[Tensor, Tensor] | str:
    return own_step.answers(victim, IMAGES, mode)


def put(path: str, **values: Any) -> Callable[[nn.Module], None]:
    def change(net: nn.Module) -> None:
        for name, value in values.items():
            setattr(net.get_submodule(path), name, value)

    return change


def scale_weights(net: nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.train().requires_grad_(False).parameters():
            parameter.mul_(1.1)


def scale_leak(net: nn.Module) -> None:
    net.get_parameter("neuron.decay").data.mul_(0.5)


def patch(net: nn.Module) -> None:
    def forward(self: Lif, v: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.8 * v + current
        spikes = Fire.apply(v - 0.7, self.width)
        return spikes, v - 0.7 * spikes

    neuron: Any = net.get_submodule("neuron")
    neuron.forward = partial(forward, neuron)


def charge_otherwise(net: nn.Module) -> None:
    neuron: Any = net.get_submodule("2")

    def charge(x: Tensor) -> None:
        neuron.v = 0.3 * neuron.v + 2 * x

    neuron.neuronal_charge = charge


def zero_reset(net: nn.Module) -> None:
    net.get_submodule("2")._reset_mechanism = "zero"  # type: ignore[assignment]


FOLLOWED = {
    "tau": (spikingjelly, put("2", tau=4.0)),
    "soft reset": (spikingjelly, put("2", v_reset=None)),
    "alpha": (spikingjelly, put("2.surrogate_function", alpha=10.0)),
    "charge": (spikingjelly, charge_otherwise),
    "weights": (spikingjelly, scale_weights),
    "beta": (snntorch, put("2", beta=torch.tensor(0.9))),
    "threshold": (snntorch, put("2", threshold=torch.tensor(0.7))),
    "spike_grad": (snntorch, put("2", spike_grad=lambda z: Fire.apply(z, 2.0))),
    "reset": (snntorch, zero_reset),
    "written threshold": (Written, put("neuron", threshold=0.6)),
    "written width": (Written, put("neuron", width=3.0)),
    "written leak": (Written, scale_leak),
    "written forward": (Written, patch),
    "written weights": (Written, scale_weights),
    "written steps": (Written, put("", T=9)),
}


@pytest.mark.parametrize(("make", "change"), FOLLOWED.values(), ids=FOLLOWED)
def test_followed(make: Callable[[], nn.Module], change: Callable[[nn.Module], Any]) -> None:
    net = brought(make)
    fresh = copy.deepcopy(net)
    victim = adapted(net)
    for mode in MODES:
        assert not isinstance(answers(victim, mode), str)
    change(net)
    change(fresh)
    anew = adapted(fresh)
    for mode in MODES:
        expected, found = answers(anew, mode), answers(victim, mode)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
            continue
        assert expected[1].any() and expected[0].abs().sum() > 0, mode
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max(), mode


def sj_neuron(name: str) -> nn.Module:
    found: nn.Module = getattr(pytest.importorskip("spikingjelly.activation_based.neuron"), name)()
    return found


def replaced(net: nn.Module, path: str, module: nn.Module) -> None:
    net.set_submodule(path, module)


EXCHANGED = {
    "another class": (spikingjelly, lambda net: replaced(net, "2", sj_neuron("IFNode")), "2 is a"),
    "the same": (spikingjelly, lambda net: replaced(net, "4", sj_neuron("LIFNode")), "4 is a"),
    "no neuron": (spikingjelly, lambda net: replaced(net, "2", nn.ReLU()), "lost a LIFNode"),
    "one more": (spikingjelly, lambda net: net.append(sj_neuron("IFNode")), "6 is a new IFNode"),
    "written": (Written, lambda net: replaced(net, "neuron", Lif(0.6)), "neuron is a new Lif"),
}


@pytest.mark.parametrize(("make", "change", "named"), EXCHANGED.values(), ids=EXCHANGED)
def test_exchanged_modules_are_refused(
    make: Callable[[], nn.Module], change: Callable[[nn.Module], Any], named: str
) -> None:
    net = brought(make)
    victim = adapted(net)
    for changed in (copy.deepcopy(victim), victim):
        change(changed.net.net)  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(InputError, match=REFUSED) as error:
                changed(IMAGES)
            assert named in str(error.value)
    adapted(net)(IMAGES)  # the network itself may be adapted again


def test_the_gradient_that_a_victim_kept_of_a_net_is_refused_once_that_has_another() -> None:
    net = brought(spikingjelly)
    victim, chosen = adapted(net), adapted(net, gradient="bptt(surrogate=atan(alpha=2))")
    before = answers(victim, str(victim.gradient))
    for alpha in (10.0, 3.0):
        net[2].surrogate_function.alpha = alpha  # type: ignore[index]
        with pytest.raises(InputError, match="surrogates were changed since; adapt the net again"):
            victim(IMAGES)
        assert victim.gradient == chosen.gradient and chosen(IMAGES).any()
        victim.sample(IMAGES, torch.arange(4))  # scores need no gradient
    net[2].surrogate_function.alpha = 2.0  # type: ignore[index]
    assert not isinstance(before, str) and torch.equal(victim(IMAGES), before[0])


@pytest.mark.parametrize("make", (spikingjelly, snntorch, Written))
def test_what_a_network_moves_by_itself_is_no_change(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = brought(make)
    victim = adapted(net)
    assert isinstance(victim.net, ForeignSNN)
    victim(IMAGES)
    studies = victim.net.studies
    for batch in (2, 5):
        with torch.no_grad():
            net.train()(torch.rand(batch, 1, 4, 4))
        victim(IMAGES[:batch])
    assert victim.net.studies is studies


def test_a_network_that_was_left_in_a_state_is_looked_at_again_from_rest() -> None:
    for make, change in ((spikingjelly, put("2", tau=4.0)), (Written, put("", T=9))):
        net = brought(make)
        victim = adapted(net)
        victim(IMAGES)
        with torch.no_grad():
            net(torch.rand(2, 1, 4, 4))
        change(net)
        assert torch.equal(victim(IMAGES[:3]), adapted(net)(IMAGES[:3]))
