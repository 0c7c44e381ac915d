"""Which calls are the steps of a neuron, where one function, line or helper serves many of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from robust_snn.foreign.recurrence import Recurrence
from robust_snn.foreign.spike_exchanges import Surrogated
from robust_snn.foreign.staircase import Staircase
from robust_snn.gradients.modes import STE
from robust_snn.kernels import Dynamics
from tests.helpers import assert_close_rms, logits_and_gradient

T, WIDTH, CLASSES = 4, 24, 5
IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def step_at(threshold: float) -> Callable[..., Tensor]:
    class Fire(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, v: Tensor) -> Tensor:
            ctx.save_for_backward(v)
            return v.ge(threshold).float()

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> Tensor:
            (v,) = ctx.saved_tensors
            return upstream[0] * ((v - threshold).abs() < 0.5).float()

    return Fire.apply


fire = step_at(0.5)


class Cleared(torch.autograd.Function):
    """A reset by a function of its own, as in early SpikingJelly."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, spikes: Tensor) -> Tensor:
        ctx.save_for_backward(spikes)
        return v.masked_fill(spikes.bool(), 0.0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0].masked_fill(ctx.saved_tensors[0].bool(), 0.0), None


class ByChance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(v)
        return torch.bernoulli(0.5 + 0.5 * torch.erf((v - 0.25) / width))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0] * torch.exp(-(ctx.saved_tensors[0] ** 2)), None


@torch.jit.script
def scripted_fire(v: torch.Tensor) -> torch.Tensor:
    soft = torch.sigmoid(4 * v)
    return ((v >= 0).float() - soft).detach() + soft


def through_clamp(v: Tensor) -> Tensor:
    """Spikes of -1, 0 and 1."""
    out = torch.sign(v)
    out[v.abs() < 0.5] = 0.0
    soft = v.clamp(-1, 1)
    return (out - soft).detach() + soft


def rounded(v: Tensor) -> Tensor:
    soft = v.clamp(0, 3)
    return (soft.round() - soft).detach() + soft


Update = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def update(x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    v = 0.5 * v * (1 - s) + x
    return v, fire(v)


def detached(x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    return update(x, v.detach(), s.detach())


def firing_twice(x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    v = 0.5 * v * (1 - fire(v)) + x
    return v, fire(v)


def by_function(x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    v = Cleared.apply(v, s.detach())  # type: ignore[no-untyped-call]
    v += (x - v) * 0.5
    return v, fire(v)


def with_fire(function: Callable[[Tensor], Tensor]) -> Update:
    def other(x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.5 * v * (1 - s) + x
        return v, function(v)

    return other


class Stacked(nn.Module):
    """Layers of one width, in a loop, all of whose neurons fire by one line of one helper."""

    def __init__(self, update: Update, noise: bool = False) -> None:
        super().__init__()
        self.update, self.noise = update, noise
        torch.manual_seed(1)
        self.layers = nn.ModuleList([nn.Linear(64, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.last = nn.Linear(WIDTH, CLASSES)
        for layer in self.layers:
            layer.weight.data *= 3

    def forward(self, x: Tensor) -> Tensor:
        v = [torch.zeros(len(x), WIDTH) for _ in self.layers]
        s, out = list(v), torch.zeros(len(x), CLASSES)
        for _ in range(T):
            h = (x > torch.rand_like(x)).float() if self.noise else x
            h = h.flatten(1)
            for place, layer in enumerate(self.layers):
                v[place], s[place] = self.update(layer(h), v[place], s[place])
                h = s[place]
            out = out + self.last(h)
        return out / T


class Written(Stacked):
    """Spikes are written to a tensor of all steps, and read from it by the reset."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)[..., None].expand(-1, -1, T)
        for layer in self.layers:
            v, out = torch.zeros(len(x), WIDTH), torch.zeros(len(x), WIDTH, T)
            for t in range(T):
                v, out[..., t] = update(layer(h[..., t]), v, out[..., max(t - 1, 0)])
            h = out
        return sum(self.last(h[..., t]) for t in range(T)) / T


def through(victim: nn.Module, mode: str | None = None) -> Tensor:
    variant = victim if mode is None else victim.replace(gradient=mode)
    return logits_and_gradient(variant, IMAGES)[1]


# all of them hard, 0.5 and 0.5 apart from how they are written
KNOWN = {
    "helper": lambda: Stacked(update),
    "detached": lambda: Stacked(detached),
    "fires twice": lambda: Stacked(firing_twice),
    "written": lambda: Written(update),
}
RULE = "rectangle(width=1)"


@pytest.mark.parametrize("name", KNOWN)
def test_steps_of_every_layer_are_told_apart(name: str) -> None:
    net = KNOWN[name]()
    victim = adapt(net, images=IMAGES)
    found = victim.net._plan.neurons
    assert [neuron.steps for neuron in found] == [T, T]
    for neuron in found:
        known = neuron.recurrence
        assert isinstance(known, Recurrence)
        assert (known.decay, known.clear, known.threshold) == pytest.approx((0.5, -0.5, 0.5))
    assert_close_rms(through(victim, f"bptt(surrogate={RULE})"), through(net))
    reference = adapt(KNOWN["helper"](), images=IMAGES)
    for mode in ("bptr", "rga", "hart"):  # no gradient passes from step to step anyway
        assert_close_rms(through(victim, mode), through(reference, mode))


def soft_fire(v: Tensor, threshold: float = 0.5) -> Tensor:
    soft = torch.sigmoid(4 * (v - threshold))
    return soft + ((v > threshold).float() - soft).detach()


# spikes of two thresholds in one line; and by two functions, which are never taken for one
TWO: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "both signs": (lambda v: fire(v) - fire(-v), lambda v: fire(v) - other_fire(-v)),
    "two levels": (lambda v: fire(v) + fire(v - 0.3), lambda v: fire(v) + other_fire(v - 0.3)),
    "a loop": (
        lambda v: sum(fire(v - k) for k in (0.0, 0.3)),
        lambda v: fire(v) + other_fire(v - 0.3),
    ),
    "arguments": (
        lambda v: Rising.apply(v, 0.5) + Rising.apply(v, 0.8),
        lambda v: fire(v) + other_fire(v - 0.3),
    ),
    "comparisons": (
        lambda v: (v > 0.5).float() - (v < -0.5).float(),
        lambda v: fire(v) - other_fire(-v),
    ),
    "soft ones": (
        lambda v: soft_fire(v) - soft_fire(-v),
        lambda v: fire(v) - other_fire(-v),
    ),
}
other_fire = step_at(0.5)


@pytest.mark.parametrize("name", TWO)
def test_spikes_of_two_thresholds_have_steps_of_their_own(name: str) -> None:
    victim, reference = (adapt(Stacked(with_fire(f)), images=IMAGES) for f in TWO[name])
    assert [neuron.steps for neuron in victim.net._plan.neurons] == [T] * 4
    for mode in ("bptt(surrogate=atan)", "ste", "pdsg", "assg"):
        assert_close_rms(through(victim, mode), through(reference, mode))


def without_graph(v: Tensor) -> Tensor:
    with torch.no_grad():
        return v * 1


DETACHED: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": torch.detach,
    "data": lambda v: v.data,
    "no_grad": without_graph,
}


class Functional(nn.Module):
    """Neurons without modules, whose weights are parameters and whose states are detached."""

    def __init__(self, order: str, apart: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.order, self.apart = order, apart
        torch.manual_seed(1)
        shapes = [(WIDTH, 64), (WIDTH, WIDTH), (WIDTH, WIDTH), (CLASSES, WIDTH)]
        drawn = [nn.Parameter(torch.randn(*shape) * 2 / shape[1] ** 0.5) for shape in shapes]
        self.weights = nn.ParameterList(drawn)

    def cell(self, current: Tensor, v: Any) -> tuple[Tensor, Tensor]:
        v = current if v is None else 0.5 * v + current
        s = fire(v)
        return s, self.apart(v * (1 - s))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest, last = self.weights
        steps, states = [x.flatten(1) @ first.T] * T, list[Any]([None, None, None])
        if self.order == "layer by layer":
            for place in range(3):
                for t in range(T):
                    steps[t], states[place] = self.cell(steps[t], states[place])
                    steps[t] = steps[t] @ rest[place].T if place < 2 else steps[t]
        else:
            for t in range(T):
                s, states[0] = self.cell(steps[t], states[0])
                if self.order == "side by side":
                    currents = [s @ weight.T for weight in rest]
                    one, states[1] = self.cell(currents[0], states[1])
                    two, states[2] = self.cell(currents[1], states[2])
                    steps[t] = one + two
                elif self.order == "split":
                    s, more = (s @ rest[0].T).chunk(2, 1)
                    s, states[1] = self.cell(s, states[1])
                    more, states[2] = self.cell(more, states[2])
                    steps[t] = torch.cat([s, more], 1)
                else:
                    for place in (1, 2):
                        s, states[place] = self.cell(s @ rest[place - 1].T, states[place])
                    steps[t] = s
        return sum(s @ last.T for s in steps) / T


@pytest.mark.parametrize("way", DETACHED)
@pytest.mark.parametrize("order", ["step by step", "layer by layer", "side by side", "split"])
def test_detached_states_tell_neurons_of_one_line_apart(order: str, way: str) -> None:
    net = Functional(order, DETACHED[way])
    victim = adapt(net, images=IMAGES)
    assert [neuron.steps for neuron in victim.net._plan.neurons] == [T, T, T]
    assert all(victim.takes(mode).refusal is None for mode in ("bptr", "hart", "pdsg"))
    assert_close_rms(through(victim, f"bptt(surrogate={RULE})"), through(net))


def test_neurons_with_one_input_are_told_apart() -> None:
    def both(x: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return (after := 0.5 * v * (1 - s.detach()) + x), fire(after)

    class Pair(Stacked):
        def forward(self, x: Tensor) -> Tensor:
            current, out = self.layers[0](x.flatten(1)), torch.zeros(len(x), CLASSES)
            states = [(current, fire(current)), (current, fire(2 * current))]
            for _ in range(T - 1):
                states = [both((1 + k) * current, *state) for k, state in enumerate(states)]
                out = out + self.last(states[0][1] + states[1][1])
            return out

    neurons = adapt(Pair(both), images=IMAGES).net._plan.neurons
    assert len(neurons) == 2


class Above(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(v - threshold)
        return (v > threshold).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        slope = upstream[0] * (ctx.saved_tensors[0].abs() < 0.5)
        return slope, -slope


def test_a_threshold_that_moves_is_followed_from_step_to_step() -> None:
    class Adaptive(Stacked):
        def forward(self, x: Tensor) -> Tensor:
            current = 2 * self.layers[0](x.flatten(1))
            v, moved, out = torch.zeros_like(current), torch.zeros_like(current), 0.0
            for _ in range(T):
                v = 0.5 * v + current
                s = Above.apply(v, 0.5 + 0.4 * moved)  # type: ignore[no-untyped-call]
                v, moved, out = v * (1 - s), 0.9 * moved + s, out + self.last(s)
            return out

    net = Adaptive(update)
    victim = adapt(net, images=IMAGES)
    found = victim.net._plan.neurons[0].staircase
    assert found is not None and found.threshold == 1 and len(found.edges) == 1
    assert "recursion" in (victim.takes("bptr").refusal or "")
    assert_close_rms(through(victim, f"bptt(surrogate={RULE})"), through(net))


def test_steps_of_a_membrane_that_nothing_ends_are_those_of_one_neuron() -> None:
    """Two membranes that turn each other and are never reset, compared with a threshold that moves:
    there are ways through all steps, and none from a comparison to the one before."""

    class Resonating(Stacked):
        def forward(self, x: Tensor) -> Tensor:
            real = other = moved = out = torch.zeros(len(x), WIDTH)
            turn = self.layers[1].bias.abs() + 6
            for _ in range(72):
                current = 20 * self.layers[0](x.flatten(1))
                damp = ((1 - (0.1 * turn) ** 2).sqrt() - 1) / 0.1 - turn.abs() - moved
                real, other = (
                    real + 0.1 * (damp * real - turn * other + current),
                    other + 0.1 * (turn * real + damp * other),
                )
                s = fire(real - (1 + moved))
                moved, out = 0.9 * moved + s, out + s
            return self.last(out)

    assert [n.steps for n in adapt(Resonating(update), images=IMAGES).net._plan.neurons] == [72]


def test_a_threshold_that_moves_has_the_gradient_of_the_mode() -> None:
    class Vanishing(Above):
        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> Any:
            return 0 * upstream[0], -0 * upstream[0]

    class Moving(Stacked):
        fire: Any = Above

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            v, out, moved = 0.0, 0.0, x.mean(1, keepdim=True).expand(-1, len(self.layers[0].bias))
            for _ in range(T):
                v = 0.5 * v + 2 * self.layers[0](x)
                s = self.fire.apply(v, moved)
                v, out, moved = v * (1 - s), out + self.last(s), 0.9 * moved + 0.3 * s
            return out

    net, hidden = Moving(update), Moving(update)
    hidden.fire = Vanishing
    victim = adapt(hidden, images=IMAGES)
    assert_close_rms(through(victim, f"bptt(surrogate={RULE})"), through(net))


def test_a_reset_by_a_function_in_place_is_followed() -> None:
    victim = adapt(Stacked(by_function), images=IMAGES)
    assert [neuron.steps for neuron in victim.net._plan.neurons] == [T, T]
    assert victim.takes("rga").refusal is None
    assert_close_rms(through(victim, f"bptt(surrogate={RULE})"), through(victim))


def test_neurons_that_never_fire_show_their_reset_under_random_spikes() -> None:
    net = Stacked(update)
    net.layers[1].weight.data *= 0.01
    net.layers[1].bias.data.fill_(-2.0)
    silent = adapt(net, images=IMAGES).net._plan.neurons[1].recurrence
    assert isinstance(silent, Recurrence)
    constants = silent.decay, silent.clear, silent.threshold
    assert constants == pytest.approx((0.5, -0.5, 0.5), abs=1e-5)


LEVELS = {
    "three": (through_clamp, (-0.5, 0.5)),
    "rounded": (rounded, (0.5, 1.5, 2.5)),
}


@pytest.mark.parametrize("name", LEVELS)
def test_spikes_of_several_levels_are_read_from_data(name: str) -> None:
    function, edges = LEVELS[name]
    victim = adapt(Stacked(with_fire(function)), images=IMAGES)
    found = victim.net._plan.neurons[0].staircase
    assert found is not None and found.edges == edges
    assert "levels" in (victim.takes("rga").refusal or "")
    assert not victim.takes("ste").missed and through(victim, "ste").any()


STAIRS = {
    "one step": ((0.3,), (0.0, 2.0), 2.0),
    "whole numbers": ((0.5, 1.5, 2.5, 3.5), (0.0, 1.0, 2.0, 3.0, 4.0), 1.0),
    "quarters": ((0.125, 0.375, 0.625, 0.875), (0.0, 0.25, 0.5, 0.75, 1.0), 1.0),
    "ternary": ((-1.0, 1.0), (-1.0, 0.0, 1.0), 1.0),
}


@pytest.mark.parametrize("name", STAIRS)
def test_straight_through_is_straight_through_all_steps(name: str) -> None:
    edges, levels, slope = STAIRS[name]
    rule = STE().rule(Dynamics())
    exchange = Surrogated(Staircase(0, None, edges, levels), rule, torch.randn(2, 5))
    upstream = torch.randn(2, 5)
    assert torch.equal(exchange.backward(None, upstream), slope * upstream)


def test_a_rounding_of_something_hidden_is_named() -> None:
    def hidden(v: Tensor) -> Tensor:
        whole = torch.from_numpy(v.detach().numpy().round())
        return (whole - v).detach() + v

    missed = adapt(Stacked(with_fire(hidden)), images=IMAGES).takes("ste").missed
    assert {"Stacked#1", "Stacked#2"} <= set(missed)
    assert "straight-through rounding" in missed["Stacked#1"]


class Passing(torch.autograd.Function):
    """Spikes whose gradient is that of the next operation."""

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0], None


class Dirtying(Passing):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        ctx.mark_dirty(v)
        return v.copy_((v > threshold).float())


class Winning(Passing):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        return ((v > threshold) & (v >= v.amax(1, keepdim=True))).float()


class Rising(Passing):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        return (v > threshold).float()


@pytest.mark.parametrize(("function", "reached"), [(Dirtying, 0), (Winning, 0), (Rising, 2)])
def test_what_is_no_step_of_its_argument_alone_is_named(function: Any, reached: int) -> None:
    count, listed = iter(range(10**6)), [function.apply]  # where it is not looked into

    def fire(v: Tensor) -> Tensor:  # two layers fire in every step
        spikes: Tensor = listed[0](v * 1, 0.4 + 0.1 * (next(count) // 2 % T))
        return spikes

    reach = adapt(Stacked(with_fire(fire)), images=IMAGES).takes("bptt")
    assert len(reach.neurons) == reached and len(reach.missed) == 2 - reached


def test_the_median_of_a_chance_is_its_threshold() -> None:
    net = Stacked(with_fire(lambda v: ByChance.apply(v, 0.4)))
    victim = adapt(net, images=IMAGES, random=True)
    found = victim.net._plan.neurons[0].staircase
    assert found is not None and math.isclose(found.edges[0], 0.25, abs_tol=0.01)
    assert "by chance" in (victim.takes("rga").refusal or "")
    assert not victim.takes("ste").missed and through(victim, "ste").any()


def test_a_random_encoder_of_the_network_is_reached() -> None:
    victim = adapt(Stacked(update, noise=True), images=IMAGES, random=True)
    assert len(victim.takes("bptt").neurons) == 3  # the encoder is one
    assert through(victim, "bptt").any()


def test_scripted_functions_run_as_they_were_written() -> None:
    net = Stacked(with_fire(lambda v: scripted_fire(v - 0.5)))
    victim = adapt(net, images=IMAGES)
    assert len(victim.takes("bptr").neurons) == 2
    assert_close_rms(through(victim, "bptt(surrogate=sigmoid(alpha=4))"), through(net))


def test_scripted_modules_are_named() -> None:
    class Fires(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            soft = torch.sigmoid(v)
            return ((v >= 0).float() - soft).detach() + soft

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), torch.jit.script(Fires()))
    victim = adapt(net.append(nn.Linear(WIDTH, CLASSES)), images=IMAGES)
    assert victim.takes("ste").neurons == () and "script" in victim.takes("ste").missed["2"]


class Polynomial(nn.Module):
    """A membrane by powers of itself, so that many ways lead from a step to the one before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(36, 8)

    def forward(self, x: Tensor) -> Tensor:
        v, total = torch.zeros(len(x), 8), torch.zeros(1)
        for _ in range(6):
            for _ in range(3):
                v = 0.3 * v + 0.1 * v * v * v + self.layer(x.flatten(1))
            spikes = step_at(0.4)(v)
            v, total = v * (1 - spikes), total + spikes
        return total


def test_a_membrane_with_many_ways_to_the_step_before_is_not_followed_forever() -> None:
    victim = adapt(Polynomial(), images=torch.rand(4, 1, 6, 6))
    assert victim.takes("pdsg").neurons and victim.takes("bptr").refusal
