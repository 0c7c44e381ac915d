"""Random networks: however they write their spikes, modes give what they do for a plain function.

Two networks with the same forward pass, one whose spikes are a function of the membrane and one
with another form of them, have the same gradients in every mode, or the mode is refused or named.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.compared_nets import HARD, IMAGES, TRICKS, WITH_GRADIENT, WITHOUT, through
from tests.foreign.own_step import Fire
from tests.helpers import assert_close_rms

WIDTH, SEEDS = 16, 3  # seeds of each test
MODES = ("bptt(surrogate=atan)", "ste", "pdsg")
Form = Callable[[Tensor], Tensor]
FORMS: dict[str, Form] = {
    **WITH_GRADIENT,
    **{name: form for name, form in WITHOUT.items() if name != "sign"},
    **{f"{n}, a trick": lambda v, n=n: TRICKS[1](HARD[n](v), torch.sigmoid(v)) for n in HARD},
}
Reset = Callable[[Tensor, Tensor], Tensor]
RESETS: tuple[Reset, ...] = (  # of a membrane, by its spikes
    lambda v, s: v * (1 - s),
    lambda v, s: v - s,
    lambda v, s: v - s.detach(),
    lambda v, s: torch.where(s > 0.5, torch.zeros_like(v), v),
    lambda v, s: v * (v <= 1),
    lambda v, s: v,
)
State = tuple[Tensor, Tensor, Tensor]  # spikes, membrane and another state


def leaky(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    v = 0.7 * v + x
    s = fire(v)
    return s, reset(v, s), b


def synaptic(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    b = 0.5 * b + x
    s, v, _ = leaky(fire, reset, b, v, b)
    return s, v, b


def adaptive(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    v = 0.8 * v + x
    s = fire(v - 0.3 * b)
    return s, reset(v, s), 0.8 * b + s


def refractory(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    v = (0.8 * v + x) * (1 - b)
    s = fire(v)
    return s, reset(v, s), s


def lateral(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    s, v, _ = leaky(fire, reset, x - 0.5 * b.roll(1, 1), v, b)
    return s, v, s


def ternary(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    v = 0.8 * v + x
    s = fire(v) - fire(-v)
    return s, v - 0.8 * s, b


def two_levels(fire: Form, reset: Reset, x: Tensor, v: Tensor, b: Tensor) -> State:
    v = 0.8 * v + x
    s = sum((fire(v + k) for k in (0.0, 0.5)), torch.zeros(()))
    return s, v - 0.5 * s, b


NEURONS = (leaky, synaptic, adaptive, refractory, lateral, ternary, two_levels)
JOINS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (  # of spikes and what is before a layer
    lambda s, h: s,
    lambda s, h: 0.0 + s,
    lambda s, h: s + h if s.shape == h.shape else s,
    lambda s, h: torch.cat([s, s.flip(1)], 1)[:, :WIDTH],
    lambda s, h: nn.functional.avg_pool1d(s[:, None], 3, 1, 1)[:, 0],
)


class Net(nn.Module):
    """Two layers of neurons, all of whose choices follow from a number."""

    def __init__(self, seed: int, fires: tuple[Form, Form]) -> None:
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        bias, self.fires = pick.random() < 0.7, fires
        self.steps, self.readout = pick.choice((2, 4)), pick.choice(("sum", "last", "membrane"))
        self.kinds = [tuple(map(pick.choice, (NEURONS, RESETS, JOINS))) for _ in fires]
        self.layers = nn.ModuleList(nn.Linear(n, WIDTH, bias=bias) for n in (36, WIDTH))
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        states, out = [(torch.zeros(len(x), WIDTH),) * 2 for _ in self.fires], torch.zeros(1)
        for _ in range(self.steps):
            h = x.flatten(1)
            for place, (neuron, reset, join) in enumerate(self.kinds):
                current = 3 * self.layers[place](h)
                s, *state = neuron(self.fires[place], reset, current, *states[place])
                states[place], h = tuple(state), join(s, h)
            kept = {"sum": 1.0, "last": 0.0, "membrane": 0.8}[self.readout]
            out = kept * out + self.last(h)
        return out


def check(seed: int) -> int:
    """Compares a network with its twin of plain functions; returns how many modes reach it."""
    pick, plain = random.Random(~seed), (lambda v: Fire.apply(v - 1),) * 2
    names = pick.choices(list(FORMS), k=2)
    net, twin = (
        adapt(Net(seed, fires), images=IMAGES)
        for fires in ((FORMS[names[0]], FORMS[names[1]]), plain)
    )
    reached = 0
    for mode in MODES:
        if net.takes(mode).missed or net.takes(mode).refusal:
            continue
        found, expected = (through(victim.replace(gradient=mode)) for victim in (net, twin))
        assert_close_rms(found[0], expected[0])
        assert_close_rms(found[1], expected[1])
        reached += 1
    return reached


@pytest.mark.parametrize("start", range(0, 6 * SEEDS, SEEDS))
def test_forms_of_spikes_have_the_gradients_of_a_function(start: int) -> None:
    reached = [check(seed) for seed in range(start, start + SEEDS)]
    assert sum(reached) > SEEDS


@pytest.mark.slow
@pytest.mark.parametrize("start", range(6 * SEEDS, 300, 8 * SEEDS))
def test_more_forms_have_the_gradients_of_a_function(start: int) -> None:
    for seed in range(start, start + 8 * SEEDS):
        check(seed)
