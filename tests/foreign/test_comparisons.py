"""Spikes made by comparisons, with the tricks by which people give them a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, adapt
from robust_snn.attacks.mode_reach import tried_reach
from tests.helpers import assert_close_rms, logits_and_gradient

IMAGES = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def soft(v: Tensor) -> Tensor:
    return torch.sigmoid(4 * (v - 1))


def without_gradient(v: Tensor) -> Tensor:
    with torch.no_grad():
        return (v > 1).to(v.dtype)


def set_as_data(v: Tensor) -> Tensor:
    out = soft(v)
    out.data = (v > 1).float()
    return out


def set_by_its_own_data(v: Tensor) -> Tensor:
    out = soft(v)
    out.data = out.data.gt(0.5).float()
    return out


def copied(v: Tensor) -> Tensor:
    out = soft(v).clone()
    with torch.no_grad():
        out.copy_((v > 1).float())
    return out


def copied_to_data(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.detach().copy_((v > 1).float())
    return out


def rounded_as_data(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.data.round_()
    return out


def rounded_in_place(v: Tensor) -> Tensor:
    out = soft(v).clone()
    with torch.no_grad():
        out.round_()
    return out


def compared_in_place(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.detach().gt_(0.5)
    return out


def hooked(v: Tensor) -> Tensor:
    """Spikes that get their gradient by a hook, which an exchanged one must not meet."""
    out, s = v - v.detach() + (v > 1).float(), soft(v).detach()
    if out.requires_grad:
        out.register_hook(lambda g: g * 4 * s * (1 - s))
    return out


def chosen(v: Tensor) -> Tensor:
    nothing = soft(v) - soft(v).detach()
    return torch.where(v > 1, 1 + nothing, nothing)


def chosen_ratio(v: Tensor) -> Tensor:
    """Spikes whose gradient above the threshold is that of a logarithm."""
    return torch.where(v > 1, soft(v) / soft(v).detach(), 0 * v)


WITH_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "hard.detach() + soft - soft.detach()": lambda v: (
        (v > 1).float().detach() + soft(v) - soft(v).detach()
    ),
    "soft + (hard - soft).detach()": lambda v: soft(v) + ((v > 1).float() - soft(v)).detach(),
    "a sum by name": lambda v: torch.add(
        input=soft(v), other=torch.sub((v > 1).float(), other=soft(v)).detach()
    ),
    "soft - soft.detach() + hard": lambda v: soft(v) - soft(v).detach() + (v > 1).float(),
    "hard + 0.5 * (soft - soft.detach())": lambda v: (
        torch.where(v > 1, 1.0, 0.0) + 0.5 * (2 * soft(v) - 2 * soft(v).detach())
    ),
    "under no_grad": lambda v: (without_gradient(v) - soft(v)).detach() + soft(v),
    "set as data": set_as_data,
    "set by its own data": set_by_its_own_data,
    "copied without a graph": copied,
    "copied to what was detached": copied_to_data,
    "rounded as data": rounded_as_data,
    "rounded in place without a graph": rounded_in_place,
    "compared in place, detached": compared_in_place,
    "by a hook": hooked,
    "chosen of soft values": chosen,
}
WITHOUT: dict[str, Callable[[Tensor], Tensor]] = {
    "float": lambda v: (v > 1).float(),
    "type_as": lambda v: v.ge(1).type_as(v),
    "times one": lambda v: torch.ge(v - 1, 0) * 1.0,
    "where": lambda v: torch.where(v > 1, torch.ones_like(v), torch.zeros_like(v)),
    "heaviside": lambda v: torch.heaviside(v - 1, torch.zeros(())),
    "sign": lambda v: (torch.sign(v - 1) + 1) / 2,
    "sign, clamped": lambda v: torch.sign(v - 1).clamp(min=0),
    "sign, squared": lambda v: ((torch.sign(v - 1) + 1) / 2) ** 2,
    "turned round": lambda v: torch.lt(torch.ones(()), v).float(),
    "operands by name": lambda v: torch.gt(input=v, other=torch.ones(())).float(),
    "a factor by name": lambda v: torch.mul(torch.gt(v, 1), other=1.0),
    "where, by name": lambda v: torch.where(
        condition=v > 1, other=torch.zeros_like(v), input=torch.ones_like(v)
    ),
    "heaviside, by name": lambda v: torch.heaviside(input=v - 1, values=torch.zeros(())),
}


def set_where(v: Tensor) -> Tensor:
    out = torch.zeros_like(v)
    out[v > 1] = 1
    return out


def one_hot(v: Tensor) -> Tensor:
    return nn.functional.one_hot((v > 1).long(), 2)[..., 1].float()


HARD: dict[str, Callable[[Tensor], Tensor]] = {
    "float": WITHOUT["float"],
    "double": lambda v: (v > 1).double().float(),
    "sign": lambda v: (torch.sign(v - 1) + 1) / 2,
    "not below": lambda v: (~(v <= 1)).float(),
    "one less below": lambda v: 1 - (v <= 1).float(),
    "negated": lambda v: torch.lt(-v, -1).float(),
    "integer": lambda v: torch.gt(v, 1).int().float(),
    "masked_fill": lambda v: torch.zeros_like(v).masked_fill(v > 1, 1.0),
    "set where": set_where,
    "one-hot": one_hot,
    "and": lambda v: torch.logical_and(v > 1, v > -50).float(),
    "floor": lambda v: v.floor().clamp(0, 1),
}
TRICKS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda hard, soft: hard.detach() + soft - soft.detach(),
    lambda hard, soft: soft + (hard - soft).detach(),
    lambda hard, soft: (hard - soft).detach() + soft,
)


class Net(nn.Module):
    """Two layers, by hand."""

    def __init__(self, fire: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.fire = nn.Linear(36, 24), nn.Linear(24, 4), fire

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + 3 * self.one(x.flatten(1))
            spikes = self.fire(v)
            v = v * (1 - spikes)
            u = 0.9 * u + 2 * self.two(spikes)
            out = self.fire(u)
            u = u - out
            total = total + out
        return total / 4


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


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v > 1).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


def through(victim: nn.Module) -> tuple[Tensor, Tensor]:
    return logits_and_gradient(victim, IMAGES)


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: form for name, form in (WITH_GRADIENT | WITHOUT).items() if name != "sign"},
    **{f"{n}, a trick": lambda v, n=n: TRICKS[1](HARD[n](v), soft(v)) for n in HARD},
}


QUIET_MODES = ("bptt(surrogate=sigmoid(alpha=4))", "ste", "pdsg")


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
@pytest.mark.parametrize("name", ["float", "where", "set as data", "soft + (hard - soft).detach()"])
def test_membranes_of_pooled_spikes_fire(name: str, pool: nn.Module) -> None:
    reference = Pooled(lambda v: Step.apply(v), pool)
    reference(IMAGES)
    net = Pooled(FORMS[name], pool)
    net.load_state_dict(reference.state_dict())
    victim, twin = (adapt(n, images=IMAGES) for n in (net, reference))
    assert len(victim.takes("bptt").neurons) == 2 and not victim.takes("bptt").missed
    for mode in QUIET_MODES:
        found, expected = (through(v.replace(gradient=mode)) for v in (victim, twin))
        assert_close_rms(found[1], expected[1])


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_a_trick_is_exchanged_with_any_surrogate(name: str) -> None:
    net = Net(WITH_GRADIENT[name])
    victim = adapt(net, images=IMAGES)
    assert victim.net.neurons == ("Net#1", "Net#2")
    own = through(net)
    same = victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))")
    for found in (through(victim), through(same)):
        assert torch.equal(found[0], own[0])
        assert_close_rms(found[1], own[1])


def test_hooks_of_modules_change_the_own_gradient_alone() -> None:
    net = Net(WITH_GRADIENT["under no_grad"])
    before = through(adapt(net, images=IMAGES, gradient="bptt"))
    net.two.register_full_backward_hook(lambda module, into, of: (-into[0],))
    victim = adapt(net, images=IMAGES)
    assert torch.equal(through(victim.replace(gradient="own"))[1], through(net)[1])
    assert_close_rms(through(victim.replace(gradient="bptt"))[1], before[1])
    assert net.two._backward_hooks


@pytest.mark.parametrize("name", WITHOUT)
def test_a_comparison_without_a_gradient_gets_one(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(WITHOUT[name])
    victim = adapt(net, images=IMAGES)
    reference = through(adapt(Net(WITH_GRADIENT["under no_grad"]), images=IMAGES))
    found = through(victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))"))
    assert torch.equal(found[0], net(IMAGES))
    if name != "sign":  # which is 1/2 at the threshold
        assert_close_rms(found[1], reference[1])
    is_zero = "the own gradient of Net is zero" in caplog.text
    assert is_zero == name.startswith("sign")  # and not missing
    if not is_zero:
        assert victim.gradient.name == "bptt"
        assert "no gradient by itself" in (victim.takes("own").refusal or "")


@pytest.mark.parametrize("name", HARD)
def test_a_soft_function_that_is_nearly_a_step_hides_no_spikes(name: str) -> None:
    reference = through(Net(WITH_GRADIENT["under no_grad"]))
    for trick in TRICKS[: 3 if name in ("set where", "floor") else 1]:
        net = Net(lambda v, trick=trick: trick(HARD[name](v), torch.sigmoid(50 * (v - 1))))
        victim = adapt(net, images=IMAGES)
        assert victim.net.neurons == ("Net#1", "Net#2")
        found = through(victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))"))
        assert torch.equal(found[0], net(IMAGES))
        assert_close_rms(found[1], reference[1])


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


class Gated(Net):
    """Its leaks follow what comes in. Nothing fires in the first step, or is far from it."""

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(len(x), 24), torch.zeros(len(x), 4), torch.zeros(1)
        for _ in range(5):
            spikes, v = self.step(self.one(x.flatten(1)), v)
            out, u = self.step(3 * self.two(spikes), u)
            total = total + out
        return total

    def step(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.sigmoid(current - v)
        v = kept * v + (1 - kept) * current
        spikes = self.fire(v + 0.7)
        return spikes, v * (1 - spikes)


MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of spikes, and of what they follow from
    "a gradient that is masked": lambda hard, z: hard + (z - z.detach()) * (z.abs() < 0.5),
    "injected before the spikes": lambda hard, z: (
        torch.exp(-z * z).detach() * z - (torch.exp(-z * z) * z).detach() + hard.detach()
    ),
    "masked twice": lambda hard, z: hard + (z * (z.abs() < 0.5) - (z * (z.abs() < 0.5)).detach()),
    "masked, from left to right": lambda hard, z: (
        hard + z * (z.abs() < 0.5) - (z * (z.abs() < 0.5)).detach()
    ),
    "clamped, from left to right": lambda hard, z: (
        hard + z.clamp(-0.5, 0.5) - z.clamp(-0.5, 0.5).detach()
    ),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("build", [Net, Gated])
def test_a_gradient_alone_is_none_of_silent_spikes(name: str, build: type[Net]) -> None:
    for hard in (HARD["float"], lambda v: torch.heaviside(v.detach() - 1, torch.zeros(()))):
        net = build(lambda v, hard=hard: MASKED[name](hard(v), v - 1))
        victim = adapt(net, images=IMAGES)
        assert not victim.takes("bptt").missed
        found = through(victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))"))
        expected = through(build(WITH_GRADIENT["under no_grad"]))
        assert (found[0] - expected[0]).abs().max() < 1e-6
        assert_close_rms(found[1], expected[1])


def test_soft_values_that_are_chosen_are_a_gradient_alone() -> None:
    mode = "bptt(surrogate=sigmoid(alpha=4))"
    found = through(adapt(Net(chosen_ratio), images=IMAGES).replace(gradient=mode))
    assert_close_rms(found[1], through(Net(chosen))[1])


class Jumping(Net):
    """Its second layer has no spikes: a membrane jumps up where it reaches the threshold."""

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros(len(x), 4)
        for _ in range(4):
            u = 0.8 * u + self.two(self.one(x.flatten(1)))
            u = u + 2 * self.fire(u + 0.9)
        return u


class JumpingOnce(Net):
    """Its membrane jumps up at the end, which no later step shows."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.two(self.one(x.flatten(1)))
        return u + 2 * self.fire(u + 0.9)


@pytest.mark.parametrize("build", [Jumping, JumpingOnce])
def test_a_jump_of_a_membrane_that_is_read_is_one_of_spikes(build: type[Net]) -> None:
    victim = adapt(build(WITHOUT["float"]), images=IMAGES)
    mode = "bptt(surrogate=sigmoid(alpha=4))"
    found = through(victim.replace(gradient=mode))
    assert_close_rms(found[1], through(build(WITH_GRADIENT["under no_grad"]))[1])
    if build is Jumping:
        assert "do not reset" in (victim.takes("bptr").refusal or "")


class Refractory(Net):
    """Its earlier spikes lower a membrane, and are kept in a list."""

    def forward(self, x: Tensor) -> Tensor:
        current, spikes = 3 * self.one(x.flatten(1)), list[Tensor]()
        for step in range(4):
            lowered = sum((0.6 ** (step - at) * s for at, s in enumerate(spikes)), torch.zeros(1))
            spikes.append(self.fire(0.5 * (step + 1) * current - lowered))
        return self.two(torch.stack(spikes).mean(0))


class LastStep(Net):
    """Its earlier spikes do nothing but reset the membrane whose last spikes are read."""

    def forward(self, x: Tensor) -> Tensor:
        current, v = 3 * self.one(x.flatten(1)), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + current
            spikes = self.fire(v)
            v = v * (1 - spikes)
        return self.two(spikes)


@pytest.mark.parametrize("build", [Refractory, LastStep])
def test_spikes_of_earlier_steps_are_no_part_of_the_function_of_later_ones(
    build: type[Net],
) -> None:
    victim = adapt(build(WITHOUT["float"]), images=IMAGES)
    found = through(victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))"))
    assert_close_rms(found[1], through(build(WITH_GRADIENT["under no_grad"]))[1])


class Subtracting(Net):
    """What is read is a membrane from which its spikes are subtracted."""

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros(1)
        for _ in range(4):
            u = 0.8 * u + self.two(self.one(x.flatten(1))) + 0.5
            u = u - self.fire(u)
        return u


def test_spikes_that_cancel_straight_through_have_other_gradients() -> None:
    soft = WITH_GRADIENT["under no_grad"]
    victim = adapt(Subtracting(soft), images=IMAGES)
    expected = through(Subtracting(soft))[1]
    for mode in ("own", "bptt(surrogate=sigmoid(alpha=4))"):
        assert_close_rms(through(victim.replace(gradient=mode))[1], expected)


class Magnitude(Net):
    """It fires by the distance of a membrane from zero."""

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.fire(self.one(3 * x.flatten(1)).abs()))


def test_straight_through_has_the_sign_of_the_nearest_step() -> None:
    identity = lambda v: (v > 1).float() + v - v.detach()  # noqa: E731
    victim = adapt(Magnitude(WITHOUT["float"]), images=IMAGES, gradient="ste")
    assert_close_rms(through(victim)[1], through(Magnitude(identity))[1])


def test_a_silent_layer_beside_a_constant_is_no_spike() -> None:
    for fire in ("float", "where"):
        victim = adapt(Recurrent(WITHOUT[fire]), images=IMAGES)
        assert not victim.takes("bptt").missed


def test_a_mask_is_no_spike() -> None:
    for mask in (lambda v: (v > 0).float(), lambda v: ~(v <= 0)):
        victim = adapt(Net(lambda v, mask=mask: mask(v) * v), images=IMAGES)
        assert victim.net.neurons == () and victim.takes("bptt").neurons == ()


def test_a_gradient_that_reaches_no_image_is_refused() -> None:
    class Behind(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = x * 1
            return super().forward(x)

    victim = adapt(Behind(WITHOUT["float"]), images=IMAGES)
    assert victim.takes("bptt").neurons == ()
    with pytest.raises(InputError, match="no gradient of Behind"):
        through(victim.replace(gradient="bptt"))
    with torch.no_grad():  # as attacks that need none
        assert torch.equal(victim.replace(gradient="bptt")(IMAGES), victim(IMAGES))
    assert tried_reach(victim.replace(gradient="bptt"), IMAGES, backward=False).refusal is None


def in_place(z: Tensor) -> Tensor:
    copy = z.clone()
    return copy.relu_() > 0


SQUASHED: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (  # of `v - 1` and of its soft function
    lambda z, q: nn.functional.threshold(z, 0.0, 0.0) > 0,
    lambda z, q: z.clamp(0, 1).ceil(),
    lambda z, q: torch.round(torch.sigmoid(z)),
    lambda z, q: torch.round(q),
    lambda z, q: q > 0.5,
    lambda z, q: q.square() > 0.25,
    lambda z, q: (q / (1 - q)).log() > 0,
    lambda z, q: torch.sign(torch.relu(z)),
    lambda z, q: torch.tanh(3 * z).heaviside(torch.zeros(())),
    lambda z, q: z + z.abs() > 0,
    lambda z, q: torch.where(z > 0, z, torch.zeros_like(z)) > 0,
    lambda z, q: nn.functional.relu(-z) <= 0,
    lambda z, q: in_place(z),
)


class Sites(nn.Module):
    """One layer of neurons for each of several spike functions, side by side."""

    def __init__(self, fires: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fires = fires
        self.layers = nn.ModuleList(nn.Linear(36, 12) for _ in fires)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(1)
        for number, (layer, fire) in enumerate(zip(self.layers, self.fires, strict=True)):
            v = torch.zeros(1)
            for _ in range(2):
                v = 0.8 * v + 4 * layer(x.flatten(1))
                spikes = fire(v)
                v = v - spikes
                out = out + self.last(spikes) * (1 + number)
        return out


def straight_through(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def fire(v: Tensor) -> Tensor:
        q = torch.sigmoid(20 * (v - 1))
        return q + (form(v - 1, q).to(v.dtype) - q).detach()

    return fire


def alone(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda v: form(v - 1, torch.sigmoid(20 * (v - 1))).to(v.dtype)


@pytest.mark.parametrize("way", [straight_through, alone])
def test_what_is_squashed_before_it_is_compared_is_a_step_of_what_it_was(
    way: Callable[[Callable[[Tensor, Tensor], Tensor]], Callable[[Tensor], Tensor]],
) -> None:
    net = Sites([way(form) for form in SQUASHED])
    victim = adapt(net, images=IMAGES)
    assert len(victim.net.neurons) == len(SQUASHED)
    assert not victim.takes("pdsg").missed
    reference = through(Sites([WITH_GRADIENT["under no_grad"]] * len(SQUASHED)))
    found = through(victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))"))
    assert_close_rms(found[0], reference[0])
    assert_close_rms(found[1], reference[1])


class Beside(Net):
    """A layer with a gradient beside one without, whose reset compares once more."""

    def __init__(self, fire: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__(fire)
        self.other, self.skip = other, nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + 3 * self.one(x.flatten(1))
            spikes = self.fire(v)
            v = v * (1 - (v > 1).float())
            u = 0.9 * u + 2 * self.two(spikes) + self.skip(x.flatten(1))
            out = self.other(u)
            u = u - (u > 1).float().detach()
            total = total + out + self.two(spikes)
        return total


def test_spikes_without_a_gradient_beside_others_are_no_reset() -> None:
    with_gradient, hard = WITH_GRADIENT["under no_grad"], WITHOUT["float"]
    reference = through(Beside(with_gradient, with_gradient))
    for fires in ((with_gradient, hard), (hard, with_gradient)):
        victim = adapt(Beside(*fires), images=IMAGES)
        assert victim.net.neurons == ("Beside#1", "Beside#2")
        found = through(victim.replace(gradient="bptt(surrogate=sigmoid(alpha=4))"))
        assert_close_rms(found[1], reference[1])
