"""Neurons of newer defences against their equations: leaks, thresholds and levels of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn.gradients import MODES, parse_mode
from robust_snn.kernels import sample_keys
from robust_snn.neurons import (
    LIF,
    EvolvingLeakLIF,
    HomeostaticLIF,
    IntegerLIF,
    RandomLeakLIF,
    gradient_mode,
    keyed,
    number_layers,
)
from robust_snn.utils.errors import InputError

SHAPE = (3, 4)


def simulated(current: Tensor, leak: Tensor, threshold: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Spikes of `[T, B, ...]` with a hard reset to 0."""
    u, spikes = torch.zeros_like(current[0]), []
    for t, step in enumerate(current):
        v = leak[t] * u + step
        spikes.append((v >= threshold(t, v)).float())
        u = v * (1 - spikes[-1])
    return torch.stack(spikes)


def test_every_neuron_has_a_leak_of_its_own_at_every_step() -> None:
    neuron = EvolvingLeakLIF(SHAPE, 5, decay=0.9)
    neuron.leak = nn.Parameter(torch.rand(5, *SHAPE) * 1.5 - 0.3)
    current = torch.rand(5, 2, *SHAPE)
    leak = 0.9 * neuron.leak.detach().unsqueeze(1)
    assert torch.equal(neuron(current), simulated(current, leak, lambda t, v: torch.tensor(1.0)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: EvolvingLeakLIF(SHAPE, 6, decay=0.5),
        lambda: HomeostaticLIF(SHAPE, 6, rate=0.0).eval(),
        lambda: RandomLeakLIF(spread=0.0),
    ],
    ids=["evolving", "homeostatic", "random"],
)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "activation"])
def test_without_what_they_add_they_are_plain_neurons(build: Callable[[], LIF], mode: str) -> None:
    plain = build()
    one = torch.rand(6, 2, *SHAPE).requires_grad_()
    other = one.detach().clone().requires_grad_()
    upstream = torch.rand(6, 2, *SHAPE)
    for neuron, current in ((plain, one), (LIF(decay=0.5, backend="torch"), other)):
        with gradient_mode(neuron, mode):
            (neuron(current) * upstream).sum().backward()
    assert torch.equal(plain(one), LIF(decay=0.5)(other))
    assert_close_rms(one.grad, other.grad)


def test_leaks_are_drawn_by_the_keys_and_stay_for_a_pass() -> None:
    neuron = RandomLeakLIF(spread=0.3, decay=0.6)
    current = torch.rand(7, 4, *SHAPE)
    with keyed(sample_keys(1, torch.arange(4))):
        spikes = neuron(current)
        factors = neuron.leak_noise.factors(current)
        assert torch.equal(neuron(current), spikes)
    assert factors is not None and factors.shape == (1, 4, *SHAPE)
    leak = (0.6 * factors).expand(7, -1, -1, -1)
    assert torch.equal(spikes, simulated(current, leak, lambda t, v: torch.tensor(1.0)))
    assert 0.3 <= leak.min() <= leak.max() <= 0.9
    with keyed(sample_keys(1, torch.tensor([2]))):  # an image's draws are its own
        assert torch.equal(neuron(current[:, 2:3]), spikes[:, 2:3])
    assert not torch.equal(neuron(current), neuron(current))
    with keyed(sample_keys(1, torch.arange(4)), mean=True):
        assert torch.equal(neuron(current), LIF(decay=0.6)(current))


def test_leaks_are_uniform() -> None:
    neuron = RandomLeakLIF(spread=0.25, decay=0.5)
    factors = neuron.leak_noise.factors(torch.empty(1, 1, 100_000))
    assert factors is not None
    leak = 0.5 * factors.flatten()
    assert float(leak.mean()) == pytest.approx(0.5, abs=3e-3)
    assert float(leak.var()) == pytest.approx(0.5**2 / 12, rel=0.02)


def test_two_layers_draw_different_leaks() -> None:
    net = nn.Sequential(RandomLeakLIF(), RandomLeakLIF())
    number_layers(net)
    current = torch.rand(1, 2, 50)
    with keyed(sample_keys(0, torch.arange(2))):
        one, other = (neuron.leak_noise.factors(current) for neuron in net)
    assert one is not None and other is not None and not torch.equal(one, other)


def test_thresholds_follow_the_membranes() -> None:
    neuron = HomeostaticLIF(SHAPE, 6, decay=0.5).eval()
    neuron.rate = nn.Parameter(torch.rand(SHAPE))
    neuron.usual.copy_(torch.rand(6, *SHAPE))
    thresholds = [torch.ones(())]

    def threshold(t: int, v: Tensor) -> Tensor:
        thresholds.append(thresholds[-1] + neuron.rate.detach() * (v - neuron.usual[t]))
        return thresholds[-1]

    current = torch.rand(6, 2, *SHAPE) * 2
    expected = simulated(current, torch.full((6,), 0.5), threshold)
    assert torch.equal(neuron(current), expected)


def test_the_usual_membranes_are_learned_in_training_alone() -> None:
    neuron = HomeostaticLIF(SHAPE, 3, rate=0.0, decay=0.5)
    current = torch.full((3, 4, *SHAPE), 0.4)  # 0.4, 0.6, 0.7: none fires
    neuron.eval()(current)
    assert not neuron.usual.any()
    neuron.train()
    for _ in range(200):
        neuron(current)
    course = torch.tensor([0.4, 0.6, 0.7]).view(3, 1, 1).expand(3, *SHAPE)
    assert_close_rms(neuron.usual, course)
    neuron.rate = nn.Parameter(torch.ones(SHAPE))
    neuron.eval()
    v = current + 0.1  # 0.1, 0.15, 0.175 above the course: the threshold rises to 1.425
    assert not neuron(v).any() and not neuron(v * 1.5).any()
    assert LIF(decay=0.5)(v * 1.5).any()


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_integer_spikes_are_the_rounded_membrane(levels: int, decay: float) -> None:
    current = torch.randn(5, 2, 40) * 3
    u, spikes = torch.zeros(2, 40), []
    for step in current:
        v = decay * u + step
        spikes.append((v + 0.5).floor().clamp(0, levels))
        u = v - spikes[-1]
    assert torch.equal(IntegerLIF(levels, decay)(current), torch.stack(spikes))


def test_the_default_gradient_is_straight_through_within_the_levels() -> None:
    values = torch.tensor([-3.0, -0.1, 0.1, 0.4, 0.6, 1.7, 3.9, 4.1, 9.0])
    current = values.view(1, 1, -1).requires_grad_()
    for text, slope in (
        ("", (values > 0) & (values < 4)),
        ("ste", torch.ones(9)),
        ("bptr", values >= 0.5),
        ("rga", (values > 0) & (values <= 4)),
    ):
        neuron = IntegerLIF(4, gradient=parse_mode(text) if text else None)
        (gradient,) = torch.autograd.grad(neuron(current).sum(), current)
        assert torch.equal(gradient.flatten(), slope.float()), text


def test_a_surrogate_is_around_every_threshold() -> None:
    values = torch.linspace(-1, 5, 61)
    current = values.view(1, 1, -1).requires_grad_()
    neuron = IntegerLIF(4, gradient="bptt(surrogate=triangle(gamma=0.5))")
    (gradient,) = torch.autograd.grad(neuron(current).sum(), current)
    nearest = (values[:, None] - torch.tensor([0.5, 1.5, 2.5, 3.5])).abs().amin(1)
    assert_close_rms(gradient.flatten(), (0.5 - nearest).clamp(min=0) / 0.25)


def test_one_level_is_a_neuron_with_a_soft_reset() -> None:
    current = torch.randn(6, 3, 30)
    binary = LIF(decay=0.5, threshold=0.5, reset="soft")(current)
    integer = IntegerLIF(1, decay=0.5)(current)
    assert torch.equal(integer[0], binary[0])  # they reset by 1, and by the threshold


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomLeakLIF(spread=0.5, decay=0.7), "spread of leaks must be in"),
        (lambda: HomeostaticLIF(SHAPE, 3, rate=-1.0), "rate of homeostasis must be at least 0"),
        (lambda: IntegerLIF(0), "levels of integer spikes"),
        (lambda: EvolvingLeakLIF(SHAPE, 3)(torch.rand(4, 1, *SHAPE)), "membrane_gain must be"),
        (lambda: HomeostaticLIF(SHAPE, 3)(torch.rand(2, 1, *SHAPE)), "know the usual membranes"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
