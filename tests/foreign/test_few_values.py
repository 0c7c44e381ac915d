"""Membranes that take few values, as spikes do, and layers that are silent beside others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.compared_nets import (
    HARD,
    IMAGES,
    MODE,
    TRICKS,
    WITH_GRADIENT,
    WITHOUT,
    Net,
    Step,
    assert_same_gradient,
    soft,
    through,
)
from tests.helpers import assert_close_rms

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: form for name, form in (WITH_GRADIENT | WITHOUT).items() if name != "sign"},
    **{f"{n}, a trick": lambda v, n=n: TRICKS[1](HARD[n](v), soft(v)) for n in HARD},
}
QUIET_MODES = (MODE, "ste", "pdsg")


class Quiet(Net):
    """Layers without biases, whose membranes are zero, as spikes are, until something fires."""

    def __init__(self, fire: Callable[[Tensor], Tensor]) -> None:
        super().__init__(fire)
        self.one, self.two = nn.Linear(36, 24, bias=False), nn.Linear(24, 24, bias=False)
        self.last = nn.Linear(24, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        v = u = torch.zeros(len(x), 24)
        spikes, total = torch.zeros(len(x), 24), torch.zeros(1)
        for _ in range(6):
            change = 3 * self.two(spikes) - 0.2 * u
            v = v + (self.one(x.flatten(1)) - 0.2 * v)
            spikes = self.fire(v)
            v = v * (1 - spikes)
            u = u + change
            out = self.fire(u)
            u = u - out
            total = total + self.last(out)
        return total


@cache
def of_quiet_steps() -> list[Tensor]:
    """The gradients of `QUIET_MODES` where spikes are calls of a function."""
    victim = adapt(Quiet(lambda v: Step.apply(v)), images=IMAGES)
    return [through(victim.replace(gradient=mode))[1] for mode in QUIET_MODES]


@pytest.mark.parametrize("name", FORMS)
def test_membranes_before_the_first_spike_are_no_spikes(name: str) -> None:
    victim = adapt(Quiet(FORMS[name]), images=IMAGES)
    reach = victim.takes("bptt")
    assert len(reach.neurons) == 2 and not reach.missed
    for mode, expected in zip(QUIET_MODES, of_quiet_steps(), strict=True):
        assert_close_rms(through(victim.replace(gradient=mode))[1], expected)


class Lif(nn.Module):
    """A layer of spikes behind weights, with its input beside them."""

    def __init__(self, fire: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fire, self.weights = fire, nn.Linear(24, 24, bias=False)
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.v + (self.weights(x) + x - self.v) / 2
        spikes = self.fire(self.v)
        self.v = self.v * (1 - spikes)
        return spikes


class Silent(Net):
    """Layers of which all but the first never fire."""

    def __init__(self, fire: Callable[[Tensor], Tensor]) -> None:
        super().__init__(fire)
        self.layers = nn.ModuleList(Lif(fire) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(1)
        for layer in self.layers:
            layer.v = 0.0
        for _ in range(4):
            now = self.layers[0](5 * self.one(x.flatten(1)))
            for layer in self.layers[1:]:
                now = layer(0.1 * now)
            total = total + self.two(now)
        return total


@pytest.mark.parametrize(
    "name", ["hard.detach() + soft - soft.detach()", "float", "where", "under no_grad"]
)
def test_layers_that_never_fire_are_found(name: str) -> None:
    victim, twin = (adapt(Silent(f), images=IMAGES) for f in (FORMS[name], lambda v: Step.apply(v)))
    assert len(victim.takes("bptt").neurons) == 4 and not victim.takes("bptt").missed
    for mode in QUIET_MODES:
        assert_same_gradient(victim.replace(gradient=mode), twin.replace(gradient=mode))


class Pooled(nn.Module):
    """Its second membrane takes few values: it is made of pooled spikes alone."""

    def __init__(self, fire: Callable[[Tensor], Tensor], pool: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fire, self.pool = fire, pool
        self.first, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.5 * v + 3 * self.first(x)
            spikes = self.fire(v)
            v = v - spikes
            u = 0.5 * u + 0.7 * self.pool(spikes)
            out = self.fire(u)
            u = u * (1 - out)
            total = total + self.last(out.flatten(1))
        return total


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Identity()], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        *("float", "where", "set as data"),
        *("soft + (hard - soft).detach()", "soft - soft.detach() + hard"),
    ],
)
def test_membranes_of_pooled_spikes_fire(name: str, pool: nn.Module) -> None:
    reference = Pooled(lambda v: Step.apply(v), pool)
    reference(IMAGES)
    net = Pooled(FORMS[name], pool)
    net.load_state_dict(reference.state_dict())
    victim, twin = (adapt(n, images=IMAGES) for n in (net, reference))
    assert len(victim.takes("bptt").neurons) == 2 and not victim.takes("bptt").missed
    for mode in QUIET_MODES:
        assert_same_gradient(victim.replace(gradient=mode), twin.replace(gradient=mode))


def hard(v: Tensor) -> Tensor:
    return (v > 1).float()


def changed_by_operators(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out -= soft(v).detach()
    out += hard(v)
    return out


def changed_in_place(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.sub_(soft(v).detach())
    out.add_(hard(v))
    return out


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard + soft - copy": lambda v: hard(v).detach() + soft(v) - soft(v).detach(),
    "hard - copy + soft": lambda v: hard(v) - soft(v).detach() + soft(v),
    "soft - (copy - hard)": lambda v: soft(v) - (soft(v) - hard(v)).detach(),
    "-(copy - soft) + hard": lambda v: -(soft(v).detach() - soft(v)) + hard(v),
    "1 + soft - copy - not hard": lambda v: 1 + soft(v) - soft(v).detach() - (v <= 1).float(),
    "hard + v - copy": lambda v: hard(v) + v - v.detach(),
    "v - copy + hard": lambda v: v - v.detach() + hard(v),
    "clamped - copy + hard": lambda v: v.clamp(0, 2) - v.clamp(0, 2).detach() + hard(v),
    "halves": lambda v: hard(v) + 0.5 * (2 * soft(v) - 2 * soft(v).detach()),
    "changed by operators": changed_by_operators,
    "changed in place": changed_in_place,
}


@cache
def of_spikes_alone() -> list[Tensor]:
    """The gradients of `ORDERS` where spikes are calls of a function."""
    victim = adapt(Pooled(lambda v: Step.apply(v), nn.Identity()), images=IMAGES)
    return [through(victim.replace(gradient=mode))[1] for mode in (MODE, "ste")]


@pytest.mark.parametrize("name", ORDERS)
def test_a_detached_copy_is_a_second_call_in_any_order(name: str) -> None:
    victim = adapt(Pooled(ORDERS[name], nn.Identity()), images=IMAGES)
    assert len(victim.takes("bptt").neurons) == 2
    for mode, expected in zip((MODE, "ste"), of_spikes_alone(), strict=True):
        assert_close_rms(through(victim.replace(gradient=mode))[1], expected)


class Recurrent(Net):
    """Its second layer is silent in the first step, and so is what it gets of itself."""

    def forward(self, x: Tensor) -> Tensor:
        back = self.two(torch.zeros(len(x), 24)).flip(1).detach()
        v, total = torch.zeros(len(x), 24), torch.zeros(1)
        for step in range(3):
            v = 0.8 * v + 3 * step * self.one(x.flatten(1))
            spikes = self.fire(v)
            v = v * (1 - spikes)
            total = total + self.fire(self.two(spikes) + (back if step == 0 else 0.0) - 0.3)
        return total


def test_a_silent_layer_beside_a_constant_is_no_spike() -> None:
    for fire in ("float", "where"):
        victim = adapt(Recurrent(WITHOUT[fire]), images=IMAGES)
        assert not victim.takes("bptt").missed
