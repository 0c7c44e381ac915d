"""Autograd functions that run whole steps, or all of them: their forward passes count as code."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.own_step import Fire, answers
from tests.helpers import assert_close_rms

IMAGES = torch.rand(4, 1, 3, 4, generator=torch.Generator().manual_seed(3))
MODES = ("bptt(surrogate=atan)", "ste", "bptr", "rga", "hart", "pdsg", "assg")
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Function(torch.autograd.Function):
    """One whose gradient nothing but `own` follows."""

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        shape = ctx.shape if hasattr(ctx, "shape") else upstream[0].shape
        return torch.zeros(shape), 0.1 * torch.ones(shape)


class Pair(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 0.5 * v + x
        ctx.save_for_backward(u)
        spikes = (u >= 1).float()
        return spikes, u * (1 - spikes)


class MembraneFirst(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.add(0.5 * v, x)
        spikes = u.ge(1).to(x)
        return u - spikes * u, spikes


class Apart(Function):
    @staticmethod
    def forward(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 0.5 * v + x
        spikes = (u >= 1).float()
        return spikes, u * (1 - spikes)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)


class InPlace(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = v.clone().mul_(0.5).add_(x)
        spikes = (u >= 1).float()
        u.mul_(1 - spikes)
        ctx.shape = x.shape
        return spikes, u


class Calling(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 0.5 * v + x
        spikes = Fire.apply(u - 1)
        return spikes, u * (1 - spikes)


class WithoutGraph(Function):
    @staticmethod
    @torch.no_grad()
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 0.5 * v.data + x.detach()
        spikes = (u >= 1).float()
        return spikes, u * (1 - spikes)


class Detached(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 0.5 * v + x
        spikes = (u >= 1).float()
        left = u * (1 - spikes)
        ctx.mark_non_differentiable(left)
        return spikes, left


class InArrays(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 0.5 * v.numpy() + x.numpy()
        spikes = (u >= 1).astype(u.dtype)
        return torch.from_numpy(spikes), torch.from_numpy(u * (1 - spikes))


class Kept(Pair):
    """For a name of its own."""


class Enclosed(Pair):
    """For a closure."""


class Listed(Pair):
    """For a list, in which nobody looks for it."""


kept, listed = Kept.apply, [Listed.apply]


def enclosing() -> Step:
    apply = Enclosed.apply
    return lambda v, x: apply(v, x)


def detached(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    spikes, left = plain(v, x)
    return spikes, left.detach()


def plain(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    u = 0.5 * v + x
    spikes = Fire.apply(u - 1)
    return spikes, u * (1 - spikes)


def membrane_first(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    left, spikes = MembraneFirst.apply(v, x)
    return spikes, left


class Net(nn.Module):
    """Two layers of neurons, a step of which is a function of membrane and current."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.step = step
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        v, u, out = torch.zeros(len(x), 16), torch.zeros(len(x), 8), torch.zeros(len(x), 3)
        for _ in range(4):
            spikes, v = self.step(v, 3 * self.first(x.flatten(1)))
            spikes, u = self.step(u, 3 * self.second(spikes))
            out = out + self.last(spikes)
        return out


STEPS: dict[str, Step] = {
    "spikes and membrane": lambda v, x: Pair.apply(v, x),
    "membrane and spikes": membrane_first,
    "with a context apart": lambda v, x: Apart.apply(v, x),
    "changed in place": lambda v, x: InPlace.apply(v, x),
    "calling another": lambda v, x: Calling.apply(v, x),
    "by an `apply` that was kept": lambda v, x: kept(v, x),
    "by an `apply` in a closure": enclosing(),
    "detached in its forward pass": lambda v, x: WithoutGraph.apply(v, x),
    "without a gradient of the membrane": lambda v, x: Detached.apply(v, x),
}
TWINS: dict[str, Step] = {"without a gradient of the membrane": detached}  # of others, `plain`
UNREACHED: dict[str, Step] = {
    "an `apply` in a list": lambda v, x: listed[0](v, x),
    "in NumPy": lambda v, x: InArrays.apply(v, x),
}


class Stacked(Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(current[0]), []
        for x in current:
            v = 0.5 * v + x
            spikes.append((v >= 1).float())
            v = v - spikes[-1]
        return torch.stack(spikes)


class Written(Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor) -> Tensor:
        v, out = torch.zeros_like(current[0]), torch.zeros_like(current)
        for t in range(len(current)):
            v = 0.5 * v + current[t]
            out[t] = (v >= 1).float()
            v = v - out[t]
        return out


def looped(current: Tensor) -> Tensor:
    v, spikes = torch.zeros_like(current[0]), []
    for x in current:
        v = 0.5 * v + x
        spikes.append(Fire.apply(v - 1))
        v = v - spikes[-1]
    return torch.stack(spikes)


class Whole(nn.Module):
    """Two layers of neurons that run all their steps at once."""

    def __init__(self, neurons: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.neurons = neurons
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons(3 * self.first(x.flatten(1)).expand(4, -1, -1))
        return self.last(self.neurons(3 * self.second(spikes)).sum(0))


WHOLE = {"stacked": Stacked, "written": Written}
NETS: dict[str, tuple[Any, Any, Any]] = {
    name: (Net, step, TWINS.get(name, plain)) for name, step in STEPS.items()
} | {name: (Whole, lambda x, f=f: f.apply(x), looped) for name, f in WHOLE.items()}


@pytest.mark.parametrize("name", NETS)
def test_modes_reach_the_spikes_of_whole_steps(name: str) -> None:
    gc.freeze()  # as the command line does
    kind, opaque, plain_code = NETS[name]
    victim, twin = (adapt(kind(code), images=IMAGES) for code in (opaque, plain_code))
    assert not victim.takes("bptt").missed
    for mode in MODES:
        found, expected = (answers(v, IMAGES, mode) for v in (victim, twin))
        assert not isinstance(found, str) and not isinstance(expected, str), (mode, found, expected)
        assert torch.equal(found[0], expected[0])
        assert_close_rms(found[1], expected[1])


@pytest.mark.parametrize("name", UNREACHED)
def test_what_cannot_be_unwrapped_is_named(name: str) -> None:
    victim = adapt(Net(UNREACHED[name]), images=IMAGES)
    assert len(victim.takes("bptt").missed) == 2
    found = answers(victim, IMAGES, "bptr")
    assert isinstance(found, str) and "no step function" in found
