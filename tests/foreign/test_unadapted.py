"""What `Victim(net)` takes by itself, what it refuses, and when."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from foreign.own_step import Fire
from robust_snn import InputError, Victim, adapt
from robust_snn.foreign import ForeignSNN
from robust_snn.neurons import LIF

IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
CALL = r"use robust_snn\.adapt\(net"


class Snn(nn.Module):
    """A network that somebody wrote with a neuron of ours, a head of its own behind it."""

    def __init__(self, head: Callable[[], nn.Module] = nn.Flatten) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inputs = nn.Linear(16, 8)
        self.neuron = LIF(decay=0.5)
        self.head = nn.Sequential(head(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.neuron(self.inputs(4 * x.flatten(1)).expand(4, -1, -1)).mean(0))


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 0.1)


class Fires(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Fire.apply(x - 0.1)


class Compares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        soft = x.sigmoid()
        return (x > 0.1).float() + soft - soft.detach()


class Remembers(nn.Module):
    last: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.last = x + self.last
        return self.last


class Draws(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Ann(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Wide(nn.Sequential):
    """No code but how it is built."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16, 3))


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList([Snn(), Snn()])

    def forward(self, x: Tensor) -> Tensor:
        return sum(member(x) for member in self.members)


def patched() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    net.forward = lambda x: Fire.apply(x.flatten(1))  # type: ignore[method-assign]
    return net


TAKEN: dict[str, Callable[[], nn.Module]] = {
    "layers of PyTorch": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
    "a subclass that adds no code": Wide,
    "a network around our neuron": Snn,
    "layers of its own beside it": lambda: Snn(Centred),
    "a mask that is no spike": lambda: Snn(Masked),
    "a container": lambda: nn.Sequential(Centred(), Snn()),
    "an ensemble": Ensemble,
    "compiled": lambda: torch.compile(Snn()),
    "for several devices": lambda: nn.DataParallel(Snn()),
    "adapted parts": lambda: nn.Sequential(Centred(), adapt(Ann(), images=IMAGES).net),
}
REFUSED: dict[str, Callable[[], nn.Module]] = {
    "no neuron of ours": Ann,
    "inside a container": lambda: nn.Sequential(Fires(), nn.Flatten(), nn.Linear(16, 3)),
    "scripted": lambda: torch.jit.trace(Ann(), IMAGES),
    "traced": lambda: torch.fx.symbolic_trace(Ann()),
    "a forward of its own": patched,
}
FOUND: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a function": (Fires, r"head\.0 fires by Fire"),
    "a comparison": (Compares, r"head\.0 fires by a comparison"),
    "a state": (Remembers, "answers the same images differently: Remembers"),
    "random numbers": (Draws, "answers the same images differently: Draws"),
}


@pytest.mark.parametrize("build", TAKEN.values(), ids=TAKEN)
def test_networks_of_ours_are_taken(build: Callable[[], nn.Module]) -> None:
    net = build().eval()
    before = torch.get_rng_state()
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(Victim(net)(IMAGES), net(IMAGES))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_networks_of_others_are_refused_at_once(build: Callable[[], nn.Module]) -> None:
    net = build()
    with pytest.raises(InputError, match=CALL):
        Victim(net)
    with pytest.raises(InputError, match=CALL):
        adapt("snn_vgg5", img_size=8, width=0.1, head_width=8, in_chans=1).replace(net=net)


@pytest.mark.parametrize(("head", "found"), FOUND.values(), ids=FOUND)
def test_what_else_is_in_a_network_of_ours_is_found_on_the_first_images(
    head: Callable[[], nn.Module], found: str
) -> None:
    for call in (lambda victim: victim(IMAGES), lambda victim: victim.sample(IMAGES, IMAGES[:, 0])):
        with pytest.raises(InputError, match=f"{found}.*{CALL}"):
            call(Victim(Snn(head)))
        victim = Victim(Snn())
        call(victim)
        victim.net.head[0] = head()
        with pytest.raises(InputError, match=f"{found}.*{CALL}"):
            call(victim)


def test_networks_that_were_built_in_inference_mode() -> None:
    with torch.inference_mode():
        net = Snn()
    with pytest.raises(InputError, match=r"inputs\.weight of Snn was made .* outside of it"):
        Victim(net)


def test_adapt_takes_a_network_of_ours_with_its_other_parts() -> None:
    assert isinstance(adapt(Snn(Centred)).net, Snn)
    for head in (Fires, Compares):
        for given in ({}, {"images": IMAGES}):
            victim = adapt(Snn(head), **given)
            assert isinstance(victim.net, ForeignSNN)
            assert set(victim.takes("bptt").neurons) == {"neuron", "head.0"}
            assert "head.0" in (victim.takes("bptr").refusal or "")  # it fires once
            copied = copy.deepcopy(victim).replace(gradient="ste")
            assert torch.equal(copied(IMAGES), victim(IMAGES))
