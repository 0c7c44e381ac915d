"""States that people keep outside of attributes and buffers: put back to rest, or named."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, adapt
from tests.foreign.own_step import Fire

IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Neuron = Callable[[Tensor], Tensor]
shared: dict[str, Any] = {"v": 0.0}


def next_step(v: Any, current: Tensor) -> tuple[Tensor, Tensor]:
    v = 0.5 * v + current
    return v, Fire.apply(v - 0.5)


class Slotted:
    __slots__ = ("v",)

    def __init__(self) -> None:
        self.v: Any = 0.0

    def __call__(self, current: Tensor) -> Tensor:
        self.v, spikes = next_step(self.v, current)
        return spikes


class Called:
    def __call__(self, current: Tensor) -> Tensor:
        self.v, spikes = next_step(getattr(self, "v", 0.0), current)
        return spikes


def closure() -> Neuron:
    v: Any = 0.0

    def step(current: Tensor) -> Tensor:
        nonlocal v
        v, spikes = next_step(v, current)
        return spikes

    return step


def attribute_of_a_function() -> Neuron:
    def step(current: Tensor) -> Tensor:
        step.v, spikes = next_step(getattr(step, "v", 0.0), current)  # type: ignore[attr-defined]
        return spikes

    return step


class Queue:
    def __init__(self) -> None:
        self.queue: deque[Any] = deque([0.0], maxlen=1)

    def __call__(self, current: Tensor) -> Tensor:
        v, spikes = next_step(self.queue[-1], current)
        self.queue.append(v)
        return spikes


class Table:
    def __init__(self) -> None:
        self.table: dict[str, Any] = defaultdict(float)

    def __call__(self, current: Tensor) -> Tensor:
        self.table["v"], spikes = next_step(self.table["v"], current)
        return spikes


class Array:
    def __init__(self) -> None:
        self.v = np.zeros((1, 5), dtype=np.float32)

    def __call__(self, current: Tensor) -> Tensor:
        v, spikes = next_step(torch.from_numpy(self.v), current)
        self.v = v.detach().numpy()
        return spikes


RESTORED = (Slotted, Called, closure, attribute_of_a_function, Queue, Table, Array)


class ClassVariable(nn.Module):
    v: Any = 0.0

    def forward(self, current: Tensor) -> Tensor:
        ClassVariable.v, spikes = next_step(ClassVariable.v, current)
        return spikes


class GlobalVariable(nn.Module):
    def forward(self, current: Tensor) -> Tensor:
        return self.helped(current)

    def helped(self, current: Tensor) -> Tensor:
        return with_global(current)


def with_global(current: Tensor) -> Tensor:
    shared["v"], spikes = next_step(shared["v"], current)
    return spikes


class Default(nn.Module):
    def forward(self, current: Tensor, kept: list[Any] = [0.0]) -> Tensor:  # noqa: B006
        kept[0], spikes = next_step(kept[0], current)
        return spikes


def steps() -> Generator[Any, Tensor, None]:
    v, spikes = 0.0, None
    while True:
        v, spikes = next_step(v, (yield spikes))  # type: ignore[assignment]


class Generated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = steps()
        next(self.steps)

    def forward(self, current: Tensor) -> Tensor:
        spikes: Tensor = self.steps.send(current)
        return spikes


NAMED = {
    "the class variable ClassVariable.v": ClassVariable,
    "the global variable shared": GlobalVariable,
    "the default of kept in Default.forward": Default,
    "the generator fire.steps": Generated,
}


class Net(nn.Module):
    def __init__(self, fire: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.fire = nn.Linear(16, 5), fire

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fire(3 * self.layer(x.flatten(1)))
        return out


@pytest.mark.parametrize("neuron", RESTORED)
def test_a_state_wherever_it_is_kept_is_put_back_to_rest(neuron: Callable[[], Neuron]) -> None:
    reference = adapt(Net(closure()), T=4, images=IMAGES)(IMAGES)
    assert 0 < reference.mean() < 1
    victim = adapt(Net(neuron()), T=4, images=IMAGES)
    for batch in (IMAGES, IMAGES[:3], IMAGES):
        assert torch.equal(victim(batch), reference[: len(batch)])


@pytest.mark.parametrize("name", NAMED)
def test_a_state_that_cannot_be_put_back_is_named(name: str) -> None:
    with pytest.raises(InputError, match=name):
        adapt(Net(NAMED[name]()), T=4, images=IMAGES)


class FirstStep(nn.Module):
    """Fires more easily at the first step, which it tells by a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def forward(self, current: Tensor) -> Tensor:
        self.step += 1
        return Fire.apply(current - (0.2 if self.step == 1 else 0.6))

    def reset(self) -> None:
        self.step = 0


def test_a_counter_that_an_earlier_call_left_is_reset() -> None:
    fresh, used = Net(FirstStep()), Net(FirstStep())
    reference = adapt(fresh, T=4, images=IMAGES)(IMAGES)
    left = used(IMAGES)
    assert not torch.equal(left, used(IMAGES))
    assert torch.equal(adapt(used, T=4, images=IMAGES)(IMAGES), reference)


class Unusable(FirstStep):
    def reset(self) -> None:
        self.step = 7
        raise RuntimeError("this resets something else")


def test_a_method_that_fails_to_reset_changes_nothing() -> None:
    reference = adapt(Net(FirstStep()), T=4, images=IMAGES)(IMAGES)
    assert torch.equal(adapt(Net(Unusable()), T=4, images=IMAGES)(IMAGES), reference)


class Shared(nn.Module):
    """Keeps its membranes in a table that two attributes hold, and resets it by one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {"v": 0.0}
        self.by_name, self.layer = self.kept, nn.Linear(16, 5)

    def reset(self) -> None:
        self.kept["v"] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        out = torch.zeros(1)
        for _ in range(4):
            v, spikes = next_step(self.by_name["v"], 3 * self.layer(x.flatten(1)))
            self.by_name["v"], out = v * (1 - spikes), out + spikes
        return out


def test_a_table_that_two_attributes_hold_stays_one() -> None:
    net = Shared()
    reference = net(IMAGES).detach()
    net(IMAGES[:3])
    victim = adapt(net, images=IMAGES)
    for images in (IMAGES, IMAGES[:2], IMAGES):
        assert torch.equal(victim(images), reference[: len(images)])
    assert net.kept is net.by_name
    assert torch.equal(net(IMAGES), reference)


class Drawing(nn.Module):
    """Draws its spikes, and notes how many images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.images = nn.Linear(16, 5), 0

    def forward(self, x: Tensor) -> Tensor:
        self.images = len(x)
        draws = [(x.flatten(1) > torch.rand(len(x), 16)).float() for _ in range(3)]
        return torch.stack([self.layer(spikes) for spikes in draws]).mean(0)


def test_random_numbers_are_not_taken_for_a_counter(caplog: pytest.LogCaptureFixture) -> None:
    adapt(Drawing(), random=True, images=IMAGES)
    assert "answers otherwise" not in caplog.text
