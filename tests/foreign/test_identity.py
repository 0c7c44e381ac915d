"""The identity of what ran: the same for the same network, another for every change of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim, adapt
from robust_snn.foreign.identity import changes, identity, structure_sha256, without_behaviour
from robust_snn.models import create_network
from robust_snn.neurons import LIF
from robust_snn.utils.module_description import describe_modules

IMAGES = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(3))
scale = 1.0  # of the function below


@dataclass
class Leak:
    tau: float = 2.0


def firing(x: Tensor) -> Tensor:
    return torch.relu(scale * x)


class Net(nn.Module):
    """A small network with one attribute of every kind."""

    floor = 0.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.neuron, self.outer = nn.Linear(16, 8), LIF(), nn.Linear(8, 3)
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.steps = 2
        self.leak, self.settings = Leak(), SimpleNamespace(reset={"kind": "hard", "to": [0.0]})
        self.act: Callable[[Tensor], Tensor] = lambda x: 4 * x
        self.told: Any = partial(torch.mul, other=1.0)
        self.plain = torch.ones(3)
        self.register_buffer("shift", torch.zeros(16), persistent=False)
        self.hidden: tuple[Any, ...] = (1, (2, "a"))
        self.calls = 0
        self.seen: list[Tensor] = []
        self.grid: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(x.detach())
        self.grid[len(x)] = x.detach()
        x = self.conv(x).flatten(1) + self.shift + self.floor
        current = self.act(firing(self.inner(x)))
        return self.outer(self.neuron(current.expand(self.steps, -1, -1))).mean(0) * self.plain


def attribute(path: str, value: Any) -> Callable[[Net], None]:
    def change(net: Net) -> None:
        *inner, last = path.split(".")
        holder: Any = net
        for name in inner:
            holder = getattr(holder, name)
        setattr(holder, last, value)

    return change


def hooked(net: Net) -> None:
    net.outer.register_forward_hook(lambda module, args, out: out + 1)


CHANGES: dict[str, Callable[[Net], None]] = {
    "steps": attribute("steps", 3),
    "in a dataclass": attribute("leak.tau", 2.5),
    "in a mapping of a namespace": lambda net: net.settings.reset.update(kind="soft"),
    "in a list of that": lambda net: net.settings.reset["to"].append(1.0),
    "a lambda": attribute("act", lambda x: 5 * x),
    "a partial": attribute("told", partial(torch.mul, other=2.0)),
    "a function of a library": attribute("told", torch.sigmoid),
    "a tensor that is no buffer": attribute("plain", 2 * torch.ones(3)),
    "a buffer outside of the state": lambda net: setattr(net, "shift", net.shift + 0.01),
    "a nested tuple": attribute("hidden", (1, (2, "b"))),
    "a kind of number": attribute("hidden", (1.5, (2, "a"))),
    "a neuron's reset": attribute("neuron", LIF(reset="soft")),
    "a neuron's decay": attribute("neuron", LIF(decay=0.9)),
    "a neuron's gradient": attribute("neuron", LIF(gradient="bptr")),
    "another class": attribute("conv", nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
    "a weight": lambda net: setattr(net.outer, "weight", nn.Parameter(1.0001 * net.outer.weight)),
    "a hook": hooked,
    "a new module": lambda net: net.add_module("idle", nn.Identity()),
    "a constant of the class": lambda net: setattr(net, "floor", 0.1),
    "a method": attribute("forward", lambda x: x.flatten(1)[:, :3]),
}


def told(net: nn.Module, **settings: Any) -> dict[str, Any]:
    return identity(Victim(net.eval(), **settings), IMAGES)


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return told(Net())


def test_the_same_network_is_the_same(known: dict[str, Any]) -> None:
    assert changes(known, told(Net())) == []
    used = Net().eval()
    for count in (1, 2, 7):
        used(torch.rand(count, 1, 4, 4))
    assert changes(known, told(used)) == []
    assert changes(known, told(copy.deepcopy(used))) == []
    assert without_behaviour(known) == without_behaviour(told(used))


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_shows(known: dict[str, Any], what: str) -> None:
    net = Net()
    CHANGES[what](net)
    found = changes(known, told(net))
    assert found and all(": " in line for line in found)


def test_a_constant_beside_the_class_shows(
    known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "scale", 2.0)
    assert any("forward" in line for line in changes(known, told(Net())))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gradient", "bptr"),
        ("sparse", "auto"),
        ("channels_last", True),
        ("bf16", True),
        ("tf32", True),
    ],
)
def test_settings_of_the_victim_show(known: dict[str, Any], setting: str, value: Any) -> None:
    found = changes(known, told(Net(), **{setting: value}))
    assert any(line.startswith(f"settings.{setting}: ") for line in found)


def test_seeds_that_a_victim_does_not_use_are_no_change() -> None:
    first, second = (
        create_network("snn_vgg5_stog", width=0.125, T=2, num_classes=3, in_chans=1, img_size=8)
        for _ in "12"
    )
    second.load_state_dict(first.state_dict())
    images = torch.rand(2, 1, 8, 8)
    here, there = (identity(Victim(net.eval()), images) for net in (first, second))
    assert not changes(here, there)


def test_answers_of_another_machine_may_round_otherwise(known: dict[str, Any]) -> None:
    def moved(by: float, machine: str) -> list[str]:
        other = copy.deepcopy(known)
        answers = other["behaviour"]
        answers["machine"] = machine
        answers["logits"] = [[value * (1 + by) for value in row] for row in answers["logits"]]
        return changes(known, other)

    here = known["behaviour"]["machine"]
    assert moved(1e-5, here) == moved(1e-5, "elsewhere") == moved(0.05, "elsewhere") == []
    assert "apart on the same images" in moved(0.05, here)[0]
    assert "apart on the same images" in moved(1.0, "elsewhere")[0]


def test_answers_are_named_where_nothing_else_differs(known: dict[str, Any]) -> None:
    moved = {"behaviour": {**known["behaviour"], "logits": [[0.0]]}}
    run, other = {"data": "a", "victim": known}, {"data": "b", "victim": {**known, **moved}}
    assert changes(run, other) == ['data: "a", now "b"']
    assert "apart on the same images" in changes(run, {**other, "data": "a"})[0]


def test_arguments_of_adapt_show() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fire(x.flatten(1))

    def adapted(**settings: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        return identity(adapt(Steps(), images=IMAGES, **settings), IMAGES)

    one = adapted(T=2)
    assert changes(one, adapted(T=2)) == []
    for other in ({"T": 3}, {"T": 2, "readout": "sum"}, {"T": 2, "output": lambda out: 2 * out}):
        assert changes(one, adapted(**other))
    assert changes(adapted(mean=0.5, std=0.5), adapted(mean=0.5, std=0.4))


def test_gradients_that_are_not_finite_are_plain_json() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(192, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1)) + (0 * x.flatten(1)[:, :3]).sqrt()

    json.dumps(identity(adapt(Rooted().eval()), torch.rand(2, 3, 8, 8)), allow_nan=False)


SAME_ANSWERS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"gradient": "bptr"}, True),
    ({"backend": "torch"}, True),
    ({"T": 3}, False),
    ({"threshold": 0.5}, False),
    ({"decay": 0.5}, False),
]


@pytest.mark.parametrize(("change", "same"), SAME_ANSWERS)
def test_the_structure_is_what_the_answers_follow_from(change: dict[str, Any], same: bool) -> None:
    """The tensors are the same in all, and so are the spikes where the structure is."""

    def digest(**changes: Any) -> str:
        small = {"T": 2, "width": 0.0625, "head_width": 8, "num_classes": 3, **changes}
        return structure_sha256({"network": describe_modules(create_network("snn_vgg5", **small))})

    assert (digest() == digest(**change)) is same
