"""Constants of neurons that somebody keeps elsewhere than in attributes, changed after `adapt`."""

from __future__ import annotations

import copy
import pickle
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from robust_snn.foreign import ForeignSNN
from robust_snn.foreign.net_state import counting_calls
from tests.foreign.own_step import Fire, answers

IMAGES = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
DECAY, THRESHOLD = 0.5, torch.tensor(1.0)
Constants = tuple[Any, Any]


@dataclass
class Settings:
    decay: float = 0.5


class Numbers:
    decay = 0.5


class Thresholded(torch.autograd.Function):
    """A step whose threshold is a variable of its class."""

    threshold = 1.0

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v >= Thresholded.threshold).to(v)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


class Lif(nn.Module):
    """A neuron whose leak, or threshold, is kept in one of many places."""

    of_class = 0.5

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.constants, self.table = kind, [[0.5]], {"lif": {"decay": 0.5}}
        self.settings, self.array = Settings(), np.array([0.5])
        self.queue, self.numbers = deque([0.5]), range(5, 9)
        self.scaled = partial(torch.mul, other=torch.tensor(0.5))
        self.plain, self.per_channel = torch.tensor(0.5), torch.full((12,), 0.5)
        self.learnt = nn.Parameter(torch.full((12,), 0.5))
        self.set, self.closed = enclosed(0.5)

    def decay(self) -> Any:
        if self.kind == "list":
            return self.constants[0][0]
        if self.kind == "dict":
            return self.table["lif"]["decay"]
        if self.kind in ("queue", "range"):
            return self.queue[0] if self.kind == "queue" else self.numbers[0] / 10
        if self.kind in ("object", "array"):
            return self.settings.decay if self.kind == "object" else float(self.array[0])
        if self.kind == "closure":
            return self.closed()
        if self.kind in ("class variable", "another class"):
            return self.of_class if self.kind == "class variable" else Numbers.decay
        if self.kind == "global variable":
            return DECAY
        if self.kind in ("tensor", "channels", "learnt"):
            return {"tensor": self.plain, "channels": self.per_channel, "learnt": self.learnt}[
                self.kind
            ]
        return 0.5

    def forward(self, v: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        v = (self.scaled(v) if self.kind == "partial" else self.decay() * v) + current
        if self.kind == "threshold of a function":
            spikes = Thresholded.apply(v)
        else:
            spikes = Fire.apply(v - (THRESHOLD if self.kind == "global tensor" else 1.0))
        return spikes, v * (1 - spikes)


def enclosed(value: float) -> tuple[Callable[[float], None], Callable[[], float]]:
    def change(other: float) -> None:
        nonlocal value
        value = other

    return change, lambda: value


class Net(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.neuron = nn.Linear(16, 12), nn.Linear(12, 3), Lif(kind)
        self.first.weight.data *= 4

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros(()), torch.zeros(())
        for _ in range(5):
            spikes, v = self.neuron(v, self.first(x.flatten(1)))
            out = out + self.last(spikes)
        return out


def leaking(module: nn.Module, arguments: Any) -> Any:
    return 0.5 * arguments[0], arguments[1]


CHANGES: dict[str, Callable[[Lif], Any]] = {
    "list": lambda n: n.constants[0].__setitem__(0, 0.9),
    "dict": lambda n: n.table["lif"].update(decay=0.9),
    "object": lambda n: setattr(n.settings, "decay", 0.9),
    "queue": lambda n: n.queue.__setitem__(0, 0.9),
    "range": lambda n: setattr(n, "numbers", range(9, 12)),
    "array": lambda n: n.array.__imul__(1.8),
    "partial": lambda n: n.scaled.keywords.update(other=torch.tensor(0.9)),
    "tensor": lambda n: setattr(n, "plain", torch.tensor(0.9)),
    "channels": lambda n: n.per_channel[:6].mul_(0.2),
    "learnt": lambda n: n.learnt.data[:6].mul_(0.2),
    "closure": lambda n: n.set(0.9),
    "hook": lambda n: n.register_forward_pre_hook(leaking),
    "class variable": lambda n: setattr(Lif, "of_class", 0.9),
    "another class": lambda n: setattr(Numbers, "decay", 0.9),
    "global variable": lambda n: setattr(sys.modules[__name__], "DECAY", 0.9),
    "global tensor": lambda n: THRESHOLD.mul_(0.7),
    "threshold of a function": lambda n: setattr(Thresholded, "threshold", 0.7),
}


@pytest.fixture
def constants() -> Any:
    """Puts the constants of classes and of this file back."""
    yield
    Lif.of_class = Numbers.decay = 0.5
    Thresholded.threshold, sys.modules[__name__].DECAY = 1.0, 0.5  # type: ignore[attr-defined]
    THRESHOLD.fill_(1.0)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_constant_is_followed_wherever_it_is_kept(kind: str, constants: Any) -> None:
    net = Net(kind)
    victim = adapt(net, images=IMAGES)
    before = answers(victim, IMAGES, "bptr")
    CHANGES[kind](net.neuron)
    anew = adapt(net, images=IMAGES)
    for mode in ("bptr", "rga", "pdsg", "bptt(surrogate=triangle(gamma=1))"):
        expected, found = (
            answers(anew, IMAGES, mode),
            answers(victim, IMAGES, mode),
        )
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected and kind in ("channels", "learnt")
            continue
        assert not isinstance(before, str) and not torch.equal(found[1], before[1])
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max(), mode


class Bare:
    """A neuron that is no module, which keeps a leak beside its state."""

    def __init__(self, decay: float = 0.5) -> None:
        self.decay, self.v = decay, torch.zeros(())

    def __call__(self, current: Tensor) -> Tensor:
        self.v = self.decay * self.v + current
        spikes: Tensor = Fire.apply(self.v - 1.0)
        self.v = self.v * (1 - spikes)
        return spikes


class Cell(nn.Module):
    def __init__(self, decay: float = 0.5) -> None:
        super().__init__()
        self.inner = Bare(decay)

    def forward(self, current: Tensor) -> Tensor:
        return self.inner(current)


class Holding(nn.Module):
    """Its neuron is in containers, of which PyTorch knows nothing."""

    def __init__(self, neuron: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(16, 12), nn.Linear(12, 3)
        self.held = {"stages": [nn.ModuleList([neuron]) if isinstance(neuron, Cell) else [neuron]]}
        self.first.weight.data *= 4

    def bare(self) -> Bare:
        neuron = self.held["stages"][0][0]
        return neuron.inner if isinstance(neuron, Cell) else neuron

    def forward(self, x: Tensor) -> Tensor:
        self.bare().v = torch.zeros(())
        call = self.held["stages"][0][0]
        return torch.stack([self.last(call(self.first(x.flatten(1)))) for _ in range(5)]).sum(0)


HELD: dict[str, tuple[Any, Callable[[Holding], Any]]] = {
    "a module": (Cell, lambda net: setattr(net.bare(), "decay", 0.9)),
    "another module": (Cell, lambda net: net.held["stages"][0].__setitem__(0, Cell(0.9))),
    "no module": (Bare, lambda net: setattr(net.bare(), "decay", 0.9)),
}


@pytest.mark.parametrize("kind", HELD)
def test_neurons_in_containers_are_followed(kind: str) -> None:
    make, change = HELD[kind]
    victim = adapt(Holding(make()), images=IMAGES)
    changed = Holding(make(0.9))
    assert isinstance(victim.net, ForeignSNN)
    answers(victim, IMAGES, "rga")
    studies = victim.net.studies
    answers(victim, IMAGES, "rga")
    assert victim.net.studies is studies
    change(victim.net.net)  # type: ignore[arg-type]
    found, expected = (answers(v, IMAGES, "rga") for v in (victim, adapt(changed, images=IMAGES)))
    assert all(map(torch.equal, found, expected))
    assert torch.equal(victim(IMAGES), changed(IMAGES))


def test_hooks_of_ours_that_only_look_are_no_change() -> None:
    victim = adapt(Net("list"), images=IMAGES)
    assert isinstance(victim.net, ForeignSNN)
    studies, layer = victim.net.studies, victim.net.net.first
    with counting_calls([layer]) as calls:
        hook = next(iter(layer._forward_hooks.values()))
        layer.register_forward_hook(partial(hook))
        victim(IMAGES)
    assert calls == [10] and victim.net.studies is studies


def test_a_training_that_learns_a_leak_studies_it_for_rates_alone() -> None:
    net = Net("learnt")
    victim = adapt(net, images=IMAGES)
    assert isinstance(victim.net, ForeignSNN)
    answers(victim, IMAGES, "bptt")
    studies = victim.net.studies
    for factor in (0.9, 0.8):
        net.neuron.learnt.data.mul_(factor)
        expected = answers(adapt(net, images=IMAGES), IMAGES, "bptt")
        found = answers(victim, IMAGES, "bptt")
        assert torch.equal(found[1], expected[1])  # type: ignore[arg-type]
        assert victim.net.studies is studies
    answers(victim, IMAGES, "bptr")
    assert victim.net.studies is not studies


def test_a_watch_is_sent_with_its_network() -> None:
    victim = adapt(Net("list"), images=IMAGES)
    net = victim.net
    assert isinstance(net, ForeignSNN)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(adapt(Sent(), images=IMAGES).net))):
        other(IMAGES)
        studies = other.studies
        other(IMAGES)
        assert other.studies is studies
        other.net.neuron.constants[0][0] = 0.9
        other(IMAGES)
        assert other.studies is not studies


class Sent(Net):
    """A network without functions of functions."""

    def __init__(self) -> None:
        super().__init__("list")
        del self.neuron.set, self.neuron.closed
