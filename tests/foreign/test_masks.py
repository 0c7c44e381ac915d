"""Masks of comparisons, wherever they take part: with a gradient, or named as not reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim, adapt
from robust_snn.diagnostics.reached_neurons import reached_neurons
from tests.helpers import assert_close_rms, logits_and_gradient

IMAGES = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
MODE = "bptt(surrogate=triangle(gamma=1),detach_reset=true)"
Form = Callable[[Tensor], Tensor]


class Step(torch.autograd.Function):
    """A step with the surrogate of `MODE`, or with none."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.slope = slope
        return (z > 0).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return upstream[0] * ctx.slope * (1 - z.abs()).clamp(min=0), None


def step(z: Tensor) -> Tensor:
    return Step.apply(z, 1.0)


def either(a: Tensor, b: Tensor) -> Tensor:
    return a + b - 2 * a * b


def set_by_mask(v: Tensor, value: float) -> Tensor:
    out = v.clone() if value == 0 else torch.zeros_like(v)
    out[v <= 0.5 if value == 0 else v > 0.5] = value
    return out


def twice(v: Tensor) -> Tensor:
    mask = v > 0.5
    return mask.float() + mask.to(v) * v


def refractory(v: Tensor) -> Tensor:
    mask = (v > 0.5) & (v.detach() < 0.9)
    return mask.view(len(v), -1).float()


def under_no_grad(v: Tensor) -> Tensor:
    with torch.no_grad():
        spikes = (v > 0.5).float()
    return spikes + 0.5 * v


# what people write, and the same with a step that has a surrogate
REACHED: tuple[tuple[Form, Form], ...] = (
    (lambda v: (v > 0.5).float() + 0.5 * v, lambda v: step(v - 0.5) + 0.5 * v),
    (lambda v: 0.5 * v - (v > 0.5).float(), lambda v: 0.5 * v - step(v - 0.5)),
    (under_no_grad, lambda v: step(v - 0.5) + 0.5 * v),
    (lambda v: (v.data > 0.5).float() + v, lambda v: step(v - 0.5) + v),
    (lambda v: v.clamp(0, 1) + (v > 0.5).float(), lambda v: v.clamp(0, 1) + step(v - 0.5)),
    (lambda v: (v > 0.5).float() * v, lambda v: step(v - 0.5) * v),
    (lambda v: torch.relu(v) * (v > 0.5), lambda v: torch.relu(v) * step(v - 0.5)),
    (lambda v: (v > 0.5) + 0.1 * v, lambda v: step(v - 0.5) + 0.1 * v),
    (lambda v: torch.where(v > 0.5, v, torch.zeros_like(v)), lambda v: step(v - 0.5) * v),
    (lambda v: torch.where(v > 0.5, 0.0, 2.0), lambda v: 2 - 2 * step(v - 0.5)),
    (lambda v: v.masked_fill(v <= 0.5, 0.0), lambda v: step(v - 0.5) * v),
    (lambda v: torch.zeros_like(v).masked_fill(v > 0.5, 1.0), lambda v: step(v - 0.5)),
    (lambda v: set_by_mask(v, 1.0), lambda v: step(v - 0.5)),
    (lambda v: set_by_mask(v, 0.0), lambda v: step(v - 0.5) * v),
    (twice, lambda v: step(v - 0.5) * (1 + v)),
    (refractory, lambda v: step(v - 0.5) * (1 - step(v - 0.9))),
    (
        lambda v: ((v > 0.5) | (v < -1)).float(),
        lambda v: 1 - (1 - step(v - 0.5)) * (1 - step(-1 - v)),
    ),
    (lambda v: ((v > 0.5) ^ (v > 1)).float(), lambda v: either(step(v - 0.5), step(v - 1))),
    (lambda v: (v > 0.5).float() - (v < -0.5).float(), lambda v: step(v - 0.5) - step(-0.5 - v)),
    (lambda v: 1.0 - (~(v > 0.5)).int(), lambda v: step(v - 0.5)),
    (lambda v: sum((v > k).float() for k in (0.5, 1.0)), lambda v: step(v - 0.5) + step(v - 1)),
    (lambda v: (torch.isfinite(v) * (v > 0.5)).float(), lambda v: step(v - 0.5)),
    (lambda v: ((v > 0.5).int() & (v < 9).int()).float(), lambda v: step(v - 0.5)),
    (lambda v: ((v > 0.5).byte() & 1).float(), lambda v: step(v - 0.5)),
    (lambda v: ((v > 0.5).int() + (v > 1).int()) * 1.0, lambda v: step(v - 0.5) + step(v - 1)),
    (lambda v: (v + 0.5).clamp(0, 1).int().float(), lambda v: step(v - 0.5)),
    (
        lambda v: torch.minimum(torch.fmax((v + 0.5).floor(), torch.zeros(())), torch.ones(())),
        lambda v: step(v - 0.5),
    ),
)
GATES: tuple[Form, ...] = (
    lambda v: v * (v > 0),
    lambda v: torch.where(v > 0, v, 0.1 * v),
    lambda v: (v - 0.5).masked_fill(v <= 0.5, 0.0),
    lambda v: (v - 0.5) * (v > 0.5).float(),
    lambda v: torch.relu(v - 1) * (v > 1),
)
LOOSE: dict[str, Form] = {
    "bucketize": lambda v: torch.bucketize(v.detach(), torch.tensor([0.5])) + 0.1 * v,
    "remainder": lambda v: v - v % 1.0,
    "frac": lambda v: v - v.frac(),
    "eq": lambda v: (v == v.amax(1, keepdim=True)) * v,
    "signbit": lambda v: torch.signbit(v - 0.5) * v,
    "threshold": lambda v: nn.functional.threshold(v, 0.5, 0.0),
    "gt": lambda v: torch.where(Step.apply(v - 0.5, 1.0) > 0, v, torch.zeros_like(v)),
    "leave PyTorch": lambda v: torch.tensor((v.detach().numpy() > 0.5) * 1.0).float() + 0.1 * v,
}


class Sites(nn.Module):
    """One layer of neurons for each of several forms, side by side, whose resets are detached."""

    def __init__(self, forms: Sequence[Form], reset: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.forms, self.reset = forms, reset
        self.layers = nn.ModuleList(nn.Linear(36, 12) for _ in forms)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(1)
        for number, (layer, form) in enumerate(zip(self.layers, self.forms, strict=True)):
            v = torch.zeros(1)
            for _ in range(3):
                v = 0.8 * v + 3 * layer(x.flatten(1))
                out = out + self.last(form(v)) * (1 + number)
                v = v - 0.5 * (v.detach() > 0.5) if self.reset else v
        return out


def gradient(net: nn.Module) -> tuple[Tensor, Tensor]:
    return logits_and_gradient(net, IMAGES)


def test_masks_have_a_gradient_wherever_they_take_part() -> None:
    net, reference = (Sites([pair[side] for pair in REACHED], reset=False) for side in (0, 1))
    victim = adapt(net, images=IMAGES)
    assert not victim.takes("pdsg").missed
    found, expected = gradient(victim.replace(gradient=MODE)), gradient(reference)
    assert torch.equal(found[0], net(IMAGES))
    assert_close_rms(found[0], expected[0])
    assert_close_rms(found[1], expected[1])


KEPT: dict[str, Form] = {  # what a membrane keeps where it has not fired
    "not above": lambda v: v * (v <= 0.5),
    "detached": lambda v: v * (v.detach() < 0.5).float(),
    "not above it": lambda v: v * ~(v > 0.5),
    "one less above": lambda v: v * (1 - (v > 0.5).float()),
    "filled": lambda v: v.masked_fill(v > 0.5, 0.0),
    "chosen": lambda v: torch.where(v < 0.5, v, torch.zeros_like(v)),
    "less": lambda v: v - 0.5 * (v > 0.5).float(),
}


class Reset(nn.Module):
    """A layer whose spikes are calls of a function, and whose reset compares the membrane."""

    def __init__(self, kept: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kept, self.first, self.last = kept, nn.Linear(36, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros(1), torch.zeros(1)
        for t in range(3):
            v = v + 3 * (1 + 0.1 * t) * self.first(x.flatten(1))
            out = out + self.last(step(v - 0.5))
            v = self.kept(v)
        return out


@pytest.mark.parametrize("name", KEPT)
def test_a_reset_by_a_comparison_is_none_of_spikes(name: str) -> None:
    net = Reset(KEPT[name])
    victim = adapt(net, images=IMAGES)
    assert victim.net.neurons == ("Reset",) and victim.takes("bptr").refusal is None
    found = gradient(victim.replace(gradient="bptt(surrogate=triangle(gamma=1))"))
    assert_close_rms(found[1], gradient(net)[1])


class FirstSpikes(Sites):
    """Only the first spike of a neuron counts, by its time; what has fired is a sum of spikes."""

    def forward(self, x: Tensor) -> Tensor:
        v, fired, times = (torch.zeros(len(x), 12) for _ in range(3))
        for t in range(4):
            v = 0.9 * v + 2 * self.layers[0](x.flatten(1))
            spikes = self.forms[0](v) * (1 - fired)
            fired, times = fired + spikes, times + spikes * (4 - t)
        return self.last(times.view_as(v))


def test_spikes_that_are_gathered_are_no_straight_through_ones() -> None:
    net = FirstSpikes([lambda v: (v >= 0.5).float()])
    reference = FirstSpikes([lambda v: step(v - 0.5)])
    victim = adapt(net, images=IMAGES)
    assert len(victim.net.neurons) == 1 and not victim.takes("pdsg").missed
    found, expected = gradient(victim.replace(gradient=MODE)), gradient(reference)
    assert torch.equal(found[0], net(IMAGES))
    assert_close_rms(found[1], expected[1])


def test_gates_without_a_jump_are_no_spikes() -> None:
    victim = adapt(Sites(GATES, reset=False), images=IMAGES)
    assert victim.net.neurons == ()


@pytest.mark.parametrize("name", LOOSE)
def test_a_jump_beside_a_smooth_path_is_named(name: str) -> None:
    forms = (lambda v: Step.apply(v - 0.5, 1.0), LOOSE[name])
    victim = adapt(Sites(forms), images=IMAGES)
    (missed,) = victim.takes("bptt").missed
    assert name in missed and victim.takes("bptt").neurons
    labels = torch.zeros(len(IMAGES), dtype=torch.long)
    assert reached_neurons(victim.replace(gradient="bptt"), IMAGES, labels).status == "warn"


class Jumping(torch.autograd.Function):
    """A step and a slope in one function, with the gradient of the slope."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v > 0.5).float() + 0.5 * v

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return 0.5 * upstream[0]


class Bent(torch.autograd.Function):
    """A rectified linear unit."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] * (ctx.saved_tensors[0] > 0)


def test_a_function_that_jumps_and_is_no_step_is_named() -> None:
    victim = adapt(Sites((Jumping.apply, Bent.apply), reset=False), images=IMAGES)
    assert list(victim.takes("bptt").missed) == ["Sites"]
    assert "Jumping" in victim.takes("bptt").missed["Sites"]


class Mapped(Sites):
    """Its first layer is charged, and its second one fires, inside of `torch.vmap`."""

    def forward(self, x: Tensor) -> Tensor:
        charge = torch.vmap(lambda v, current: 0.8 * v + current)
        fire = torch.vmap(
            lambda v: torch.sigmoid(v) + ((v > 0.5).float() - torch.sigmoid(v)).detach()
        )
        v, u, out = torch.zeros(len(x), 12), torch.zeros(len(x), 12), torch.zeros(1)
        for _ in range(3):
            v = charge(v, 3 * self.layers[0](x.flatten(1)))
            spikes = step(v - 0.5)
            v = v * (1 - spikes)
            u = 0.8 * u + 3 * self.layers[1](x.flatten(1))
            out = out + self.last(spikes) + self.last(fire(u))
        return out


def test_what_fires_inside_of_vmap_is_named() -> None:
    victim = adapt(Mapped([step, step]), images=IMAGES)
    reach = victim.takes("bptt")
    assert reach.neurons == ("Mapped",)
    (missed,) = reach.missed
    assert "gt" in missed and "inside torch.vmap" in missed
    assert torch.equal(victim(IMAGES), victim.net.net(IMAGES))


class Apart(torch.autograd.Function):
    """A step whose forward pass gets no context, so that `torch.vmap` takes it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor) -> Tensor:
        return (v >= 0).to(v.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


def test_a_function_without_a_context_is_reached_and_stays_as_vmap_needs_it() -> None:
    victim = adapt(Sites([Apart.apply, Apart.apply]), images=IMAGES)
    assert len(victim.takes("bptt").neurons) == 2
    v = torch.linspace(-1, 1, 6).view(2, 3).requires_grad_()
    mapped = torch.vmap(Apart.apply)(v)
    (slope,) = torch.autograd.grad(mapped.sum(), v)
    assert torch.equal(mapped, (v >= 0).float()) and torch.equal(slope, 1 - v.abs())
    own, bptt = (input_gradient(victim.replace(gradient=m)) for m in ("own", "bptt"))
    assert torch.equal(own, bptt)
    assert not torch.equal(own, input_gradient(victim.replace(gradient="bptt(surrogate=atan)")))


def input_gradient(victim: Victim) -> Tensor:
    x = IMAGES.clone().requires_grad_()
    return torch.autograd.grad(victim(x).square().sum(), x)[0]


class Resonating(Sites):
    """Its membranes are complex numbers, of which a part fires."""

    seen: Any = None

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros(len(x), 12, dtype=torch.complex64), torch.zeros(1)
        turn = torch.polar(torch.tensor(0.8), torch.tensor(0.7))
        for _ in range(3):
            v = turn * v + 3 * self.layers[0](x.flatten(1))
            spikes = Apart.apply(self.seen(v) - 0.5)
            v = v - spikes
            out = out + self.last(spikes)
        return out


@pytest.mark.parametrize("seen", [torch.real, torch.abs, lambda v: (v * v.conj()).real])
def test_complex_membranes_are_taken(seen: Any) -> None:
    net = Resonating([step, step])
    net.seen = seen
    victim = adapt(net, images=IMAGES)
    assert len(victim.takes("bptt").neurons) == 1 and torch.equal(victim(IMAGES), net(IMAGES))
    own, bptt = (input_gradient(victim.replace(gradient=m)) for m in ("own", "bptt"))
    assert torch.equal(own, bptt)
