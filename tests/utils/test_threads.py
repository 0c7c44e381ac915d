"""Threads, forks and replicas on one network: each call has the numbers that it has alone."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, Victim, gradient_mode
from robust_snn.neurons import LIF, StochasticGate
from robust_snn.neurons.fixed_network import fixed_network
from robust_snn.utils.modules import global_generators

STEPS, WIDTH, CLASSES = 2, 6, 3
MODES = ("bptt", "rga", "hart", "pdsg(scope=sample)", "assg", "ste", "activation(relu)")
NOISES = ("fresh", "frozen", "mean")


class Small(nn.Module):
    """A batch norm, neurons and gates: all that differs between modes, noises and draws."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.2)
            self.inner, self.outer = nn.Linear(4, WIDTH), nn.Linear(WIDTH, CLASSES)
            nn.init.normal_(self.inner.weight, 0.5, 1.0)
        self.neuron, self.gate = LIF(gate=StochasticGate((WIDTH,), 0.7)), None

    def forward(self, x: Tensor) -> Tensor:
        current = self.inner(self.drop(self.norm(x.flatten(1))))
        spikes = self.neuron(current.expand(STEPS, *current.shape))
        return self.outer(spikes).mean(0)


# As if it were of our package, whose networks several threads run at once.
Shared = type("Shared", (Small,), {"__module__": "robust_snn.models.shared"})


class Keeps(Small):
    """Leaves what it is shown on itself during a pass, as networks of other people do."""

    def forward(self, x: Tensor) -> Tensor:
        self.shown = x
        return super().forward(self.shown)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 1, 2, 2, generator=torch.Generator("cpu").manual_seed(1))


def _gradient(victim: Victim, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(victim(x).square().sum(), x)[0]


def _calls(net: nn.Module) -> dict[str, Callable[[], Tensor]]:
    x, ids = images(), torch.arange(2)
    calls: dict[str, Callable[[], Tensor]] = {
        f"{mode}, {noise}": partial(_fresh, net, x, gradient=mode, noise=noise)
        for mode in MODES
        for noise in NOISES
    }
    calls["eot"] = partial(_fresh, net, x, eot=3)
    for draw, purpose in enumerate(("report", "select", "report")):
        calls[f"draw {draw}, {purpose}"] = partial(Victim(net).sample, x, ids, draw, purpose)
    return calls


def _fresh(net: nn.Module, x: Tensor, **settings: object) -> Tensor:
    return _gradient(Victim(net, **settings), x)  # type: ignore[arg-type]


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as Python can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (Shared, 60),
        (Keeps, 60),
        pytest.param(Shared, 1000, marks=pytest.mark.slow),
        pytest.param(Keeps, 1000, marks=pytest.mark.slow),
    ],
)
def test_interleaved_calls_have_the_numbers_of_calls_alone(
    kind: type[nn.Module], count: int, switching: None
) -> None:
    net = kind()
    calls = _calls(net)
    expected = {name: call() for name, call in calls.items()}
    assert len({tuple(value.flatten().tolist()) for value in expected.values()}) > len(MODES)
    net.train()
    buffers = [buffer.clone() for buffer in net.buffers()]

    def wrong(seed: int) -> list[str]:
        order = random.Random(seed)
        names = [order.choice(list(calls)) for _ in range(count // 4)]
        return [name for name in names if not torch.equal(calls[name](), expected[name])]

    with ThreadPoolExecutor(4) as pool:
        assert not sum(pool.map(wrong, range(4)), [])
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), buffers, strict=True))


def test_threads_that_share_a_victim_draw_apart_and_count_every_pass(switching: None) -> None:
    def drawn(victim: Victim) -> tuple[float, ...]:
        return tuple(victim(images(1))[0].tolist())

    alone, shared = Victim(Shared()), Victim(Shared())
    expected = sorted(drawn(alone) for _ in range(100))
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: drawn(shared), range(100))) == expected
    assert shared.calls == shared.cost.forwards == 100


def test_two_wrappers_of_one_network_take_turns(switching: None) -> None:
    class Counts(Keeps):
        inside = most = 0

        def forward(self, x: Tensor) -> Tensor:
            self.inside += 1
            self.most = max(self.most, self.inside)
            out = super().forward(x)
            self.inside -= 1
            return out

    net = Counts()
    victims = [Victim(nn.Sequential(nn.Identity(), net)), Victim(nn.Sequential(net))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda victim: [victim(images()) for _ in range(50)], victims))
    assert net.most == 1


def test_a_coroutine_hands_its_gradient_mode_to_a_thread() -> None:
    net = Shared()

    async def both() -> tuple[Tensor, Tensor]:
        victim = Victim(net)
        with gradient_mode(victim, "rga"):
            return await asyncio.gather(
                asyncio.to_thread(_gradient, victim.replace(), images()),
                asyncio.to_thread(_gradient, Victim(net, gradient="ste"), images()),
            )

    got = asyncio.run(both())
    for mode, gradient in zip(("bptt", "ste"), got, strict=True):
        assert torch.equal(gradient, _fresh(net, images(), gradient=mode))


def _in_a_fork(work: Callable[[], bool]) -> bool:
    child = os.fork()
    if not child:
        right = False
        with suppress(BaseException):
            right = work()
        os._exit(0 if right else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", [Shared, Keeps])
def test_a_fork_beside_a_running_pass_is_free_of_it(kind: type[nn.Module]) -> None:
    net = kind()
    expected = Victim(net).sample(images(), torch.arange(2))
    net.train()
    entered, ended = threading.Event(), threading.Event()

    def holds_everything() -> None:
        with global_generators, fixed_network(net):
            entered.set()
            ended.wait(60)

    def right() -> bool:
        as_before = net.training and all(p.requires_grad for p in net.parameters())
        with global_generators:
            got = Victim(net).sample(images(), torch.arange(2))
        return as_before and net.training and torch.equal(got, expected)

    thread = threading.Thread(target=holds_everything)
    thread.start()
    entered.wait(60)
    assert not net.training
    alone = _in_a_fork(right)
    ended.set()
    thread.join()
    assert alone and net.training


def test_replicas_of_a_victim_draw_apart() -> None:
    """What `nn.DataParallel` does on several GPUs: a copy of every module for each of them."""
    victim = Victim(Shared())
    shares = images(4).split(2)

    def parallel() -> list[Tensor]:
        replicas = [victim._replicate_for_data_parallel() for _ in shares]
        return [replica(x) for replica, x in zip(replicas, shares, strict=True)]

    got = [*parallel(), *parallel()]
    alone = Victim(Shared())
    for logits, x in zip(got, [*shares, *shares], strict=True):
        assert torch.equal(logits, alone(x))
    assert victim.cost.forwards == 8


def test_data_parallel_is_unwrapped_or_refused() -> None:
    net = Shared()
    assert Victim(nn.DataParallel(net)).net is net
    inside = nn.Sequential(nn.DataParallel(net))
    assert torch.equal(Victim(inside)(images()), Victim(net)(images()))
    inside[0].device_ids = [0, 1]  # as with two GPUs
    with pytest.raises(InputError, match=r"0 is an nn.DataParallel.*put 0.module in its place"):
        Victim(inside)
