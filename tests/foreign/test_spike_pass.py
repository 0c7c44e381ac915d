"""Gradient modes through somebody's own neurons equal those of our kernels on the same network."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim, adapt
from robust_snn.gradients import MODES
from robust_snn.neurons import LIF
from tests.helpers import assert_close_rms

T = 4
IMAGES = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 5
NAMES = [name for name, mode in MODES.items() if not mode.other_forward]
TEXTS = [*NAMES, "bptt(surrogate=atan(alpha=4))", "bptt(detach_reset=true)"]


class Vanishing(torch.autograd.Function):
    """A step whose surrogate masks the gradient."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v >= 0).float()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 0 * g


class OwnLIF(nn.Module):
    def __init__(self, decay: float, hard: bool) -> None:
        super().__init__()
        self.decay, self.hard, self.v = decay, hard, None

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x) if self.v is None else self.v
        v = self.decay * v + x
        spikes = Vanishing.apply(v - 1.0)
        self.v = v * (1 - spikes) if self.hard else v - spikes
        return spikes


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    made = nn.Conv2d(1, 6, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 5)
    made[0].weight.data *= 4
    made[3].weight.data *= 8
    return list(made)


class Theirs(nn.Module):
    """One step after the other, and a state that only its caller resets."""

    def __init__(self, decay: float, hard: bool) -> None:
        super().__init__()
        conv, pool, flat, last = layers()
        self.body = nn.Sequential(conv, OwnLIF(decay, hard), pool, flat, last, OwnLIF(decay, hard))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.body(x) for _ in range(T)]).mean(0)


class Ours(nn.Module):
    def __init__(self, decay: float, hard: bool) -> None:
        super().__init__()
        self.conv, self.pool, self.flat, self.last = layers()
        kind: Any = "hard" if hard else "soft"
        self.one, self.two = LIF(decay, reset=kind), LIF(decay, reset=kind)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.one(self.conv(x).expand(T, -1, -1, -1, -1))
        current = self.last(self.flat(self.pool(spikes.flatten(0, 1))))
        return self.two(current.unflatten(0, (T, -1))).mean(0)


def gradient(victim: Victim, x: Tensor = IMAGES) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = victim(x)
    loss = nn.functional.cross_entropy(logits, LABELS[: len(x)], reduction="sum")
    return logits.detach(), torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("decay", [0.5, 1.0], ids=["leaky", "integrating"])
def test_every_mode_equals_the_kernels(decay: float, hard: bool) -> None:
    theirs = adapt(Theirs(decay, hard), images=IMAGES)
    ours = Victim(Ours(decay, hard))
    assert not gradient(theirs)[1].any()  # the author's own gradient
    for text in TEXTS:
        assert theirs.takes(text).neurons == ("body.1", "body.5")
        logits, found = gradient(theirs.replace(gradient=text))
        expected_logits, expected = gradient(ours.replace(gradient=text))
        assert torch.equal(logits, expected_logits)
        assert_close_rms(found, expected)


class Adapting(OwnLIF):
    """Its threshold rises with every spike, so that its recursion is none of the kernels'."""

    def forward(self, x: Tensor) -> Tensor:
        v, self.high = (torch.zeros_like(x), 0.0) if self.v is None else (self.v, self.high)
        v = self.decay * v + x
        spikes = Vanishing.apply(v - 1.0 - self.high)
        self.v, self.high = v - (1.0 + self.high) * spikes, 0.8 * self.high + spikes
        return spikes


def test_a_reset_whose_gradient_cannot_be_cut_is_named() -> None:
    net = Theirs(0.5, True)
    net.body[1] = Adapting(0.5, True)
    victim = adapt(net, images=IMAGES)
    for mode, missed in ("bptt", set()), ("bptt(detach_reset=true)", {"body.1"}):
        reach = victim.takes(mode)
        assert set(reach.missed) == missed and "body.5" in reach.neurons


class Both(Ours):
    """Neurons of ours, and one of its author's own, which takes one step per call."""

    def __init__(self) -> None:
        super().__init__(0.5, True)
        self.two = OwnLIF(0.5, True)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.one(self.conv(x).expand(T, -1, -1, -1, -1))
        current = self.last(self.flat(self.pool(spikes.flatten(0, 1))))
        return torch.stack([self.two(step) for step in current.unflatten(0, (T, -1))]).mean(0)


def test_neurons_of_ours_beside_others_are_reached_too() -> None:
    ours, mixed = Victim(Ours(0.5, True)), adapt(Both(), images=IMAGES)
    assert mixed.gradient == ours.gradient
    assert "no own mode" in (mixed.takes("own").refusal or "")
    for text in TEXTS:
        assert set(mixed.takes(text).neurons) == {"one", "two"}
        for got, expected in zip(
            gradient(mixed.replace(gradient=text)),
            gradient(ours.replace(gradient=text)),
            strict=True,
        ):
            assert_close_rms(got, expected)


def test_backward_passes_can_be_repeated_and_leave_the_net_alone() -> None:
    net = Theirs(0.5, True)
    victim = adapt(net, images=IMAGES)
    for mode in ("bptt(surrogate=atan(alpha=2))", "bptr", "hart(gamma=9)", "assg"):
        x = IMAGES.clone().requires_grad_()
        loss = (victim.replace(gradient=mode)(x) * torch.arange(1.0, 6.0)).sum()
        first, again = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
        assert torch.equal(first, again) and first.any()
    assert net.body[1].v is None
    x = IMAGES.clone().requires_grad_()
    assert not torch.autograd.grad(net(x).sum(), x)[0].any()


def test_an_activation_is_refused_with_the_reason() -> None:
    victim = adapt(Theirs(0.5, True), images=IMAGES)
    assert "replaces spikes" in (victim.takes("activation").refusal or "")


def test_feedback_is_refused_by_the_mode_that_cannot_follow_it() -> None:
    class Feedback(Theirs):
        def forward(self, x: Tensor) -> Tensor:
            out, back = [], torch.zeros(len(x), 5)
            for _ in range(T):
                back = self.body(x + back.mean(1).view(-1, 1, 1, 1))
                out.append(back)
            return torch.stack(out).mean(0)

    victim = adapt(Feedback(0.5, True), images=IMAGES)
    assert "act on it or on neurons before it" in (victim.takes("hart").refusal or "")
    assert victim.takes("bptr").refusal is None


def test_a_pass_that_calls_other_functions_than_before_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fickle(Theirs):
        def forward(self, x: Tensor) -> Tensor:
            steps = int(os.environ.get("STEPS", T))
            return torch.stack([self.body(x) for _ in range(steps)]).mean(0)

    net = Fickle(0.5, True)
    victim = adapt(net, gradient="bptt", images=IMAGES)
    monkeypatch.setenv("STEPS", str(T - 1))
    with pytest.raises(ValueError, match="called its spike functions 6 times, and 8 times"):
        gradient(victim)


class Changed(nn.Module):
    """A threshold inside the function, and a membrane that is changed in place afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.flat, self.last = layers()

    def forward(self, x: Tensor) -> Tensor:
        v, total = torch.zeros(len(x), 6, 6, 6), 0
        for _ in range(T):
            v = 0.5 * v + self.conv(x)
            spikes = Kept.apply(v)
            v.masked_fill_(spikes > 0, 0.0)
            total = total + self.last(self.flat(self.pool(spikes)))
        return total / T


class Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.near = (v - 1).abs() < 0.5
        return (v >= 1).float()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.near


def test_a_membrane_that_is_changed_in_place_is_kept_as_it_was() -> None:
    victim = adapt(Changed(), images=IMAGES)
    logits, own = gradient(victim)
    again, found = gradient(victim.replace(gradient="bptt(surrogate=rectangle(width=1))"))
    assert torch.equal(logits, again)
    assert_close_rms(found, own)
