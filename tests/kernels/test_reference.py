"""The reference against closed forms and numerical derivatives: the oracle must be right itself."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close_rms
from loops import BACKENDS, run
from robust_snn.gradients.modes import BPTR, RGA
from robust_snn.kernels import (
    Dynamics,
    Gate,
    NoisyFiring,
    Recursion,
    Surrogate,
    TimeAverage,
    sample_keys,
    spiking_loop,
)
from robust_snn.kernels.spiking.firing_probability import firing_probability, firing_table
from robust_snn.kernels.spiking.gate import relaxed_gate
from robust_snn.kernels.spiking.surrogate_shapes import derivative

TRIANGLE = Surrogate("triangle", 1.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(("reset", "drop"), [("hard", None), ("soft", None), ("soft", 1.1)])
def test_bptt_closed_form(backend, reset, drop, detach):
    """The recursion of the specification, written out by hand."""
    dynamics = Dynamics(decay=0.8, threshold=0.9, gain=0.7, reset=reset, v_reset=0.1, drop=drop)
    current, upstream = torch.randn(2, 6, 2, 50)
    spikes, gradients = run(current, upstream, dynamics, Recursion(TRIANGLE, detach), backend)
    hard, fall = reset == "hard", drop or 0.9
    u = torch.full((2, 50), 0.1 if hard else 0.0)
    vs = []
    for x in current:
        v = 0.8 * u + 0.7 * x
        s = (v >= 0.9).float()
        u = (1 - s) * v + 0.1 * s if hard else v - fall * s
        vs.append((v, s))
    carried, expected = torch.zeros(2, 50), []
    for (v, s), e in zip(reversed(vs), upstream.flip(0), strict=True):
        slope = (1 - (v - 0.9).abs()).clamp(min=0)
        path = 0 if detach else (0.1 - v if hard else -fall)
        grad = ((1 - s) if hard else 1) * carried + slope * (e + path * carried)
        expected.append(0.7 * grad)
        carried = 0.8 * grad
    assert torch.equal(spikes, torch.stack([s for _, s in vs]))
    assert_close_rms(gradients["current"], torch.stack(expected[::-1]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bptt_by_hand(backend):
    """Soft reset, no leak, a slope of one: every step passes its own spike's gradient alone.

    `dL/du[t] = g[t+1]` and `g[t] = e[t] + (1 - 1) g[t+1]`, for u[t] = v[t] - s[t] and ds/dv = 1;
    with the reset detached, gradients add up over later steps.
    """
    upstream = torch.tensor([1.0, 20.0, 300.0, 4000.0]).view(4, 1, 1)
    current = torch.tensor([0.6, 0.7, 0.2, 0.9]).view(4, 1, 1)
    slope = Surrogate("step", 1.0, scale=0.0, floor=1.0)
    dynamics = Dynamics(reset="soft")
    for detach, expected in ((False, [1, 20, 300, 4000]), (True, [4321, 4320, 4300, 4000])):
        spikes, gradients = run(current, upstream, dynamics, Recursion(slope, detach), backend)
        assert spikes.flatten().tolist() == [0, 1, 0, 1]
        assert gradients["current"].flatten().tolist() == expected


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("family", ["gaussian", "sigmoid", "atan"])
def test_mean_field_of_noise_is_differentiable(family, reset):
    """The smooth part, checked numerically: the table's slope is the density to its resolution."""
    noise = NoisyFiring(family, 1.5, torch.zeros(2, dtype=torch.int64), mean=True)
    dynamics = Dynamics(decay=0.9, reset=reset)
    current = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)

    def loop(x):
        return spiking_loop(x, dynamics, Recursion(Surrogate(family, 1.5)), noise=noise)

    assert torch.autograd.gradcheck(loop, (current,), eps=1e-2, atol=2e-3)


@pytest.mark.parametrize("parameter", ["affine", "membrane_gain", "input_gain", "probability"])
def test_parameters_are_differentiable(parameter):
    """With the mean field everywhere, parameters too have smooth effects."""
    keys = torch.zeros(2, dtype=torch.int64)
    current = torch.randn(3, 2, 4, 2, dtype=torch.float64)
    leaf = torch.rand(
        {"affine": (2, 4), "probability": (4, 2)}.get(parameter, (3,)), dtype=torch.float64
    )

    def loop(value):
        arguments = {parameter: value}
        if parameter == "affine":
            arguments = {"affine": (value[0] + 0.5, value[1])}
        elif parameter == "probability":
            arguments = {"gate": Gate(value, keys, mean=True)}
        noise = NoisyFiring("gaussian", 1.5, keys, mean=True)
        rule = Recursion(Surrogate("gaussian", 1.5))
        return spiking_loop(current, Dynamics(0.9), rule, noise=noise, **arguments)

    assert torch.autograd.gradcheck(loop, (leaf.requires_grad_(),), eps=1e-2, atol=2e-3)


def test_second_derivatives():
    current = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    spikes = spiking_loop(current, Dynamics(), Recursion(Surrogate("atan", 2.0)), backend="torch")
    (first,) = torch.autograd.grad(spikes.sum(), current, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), current)
    assert second.abs().sum() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_integrate_and_fire_rate(backend):
    """A constant current fires every `ceil(threshold / current)` steps."""
    current = torch.tensor([0.1, 0.25, 0.3, 0.5, 0.9, 1.0, 1.7]).view(1, 1, -1)
    spikes = spiking_loop(current.double().float(), Dynamics(), steps=60, backend=backend)
    period = (1 / current.double() - 1e-6).ceil()
    assert_close_rms(spikes.mean(0, keepdim=True).double(), 1 / period, 0.02)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bptr_is_scaled_by_gain_and_threshold(backend):
    current, upstream = torch.randn(2, 8, 2, 90)
    dynamics = Dynamics(decay=0.9, threshold=0.5, gain=0.25)
    spikes, gradients = run(current, upstream, dynamics, BPTR().rule(dynamics), backend)
    assert_close_rms(gradients["current"], upstream * spikes.any(0) * 0.25 / 0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rga_limit_is_bptr_without_dead_neurons(backend):
    """One slope on the whole positive axis gates by the sign of the mean current."""
    current, upstream = torch.randn(2, 8, 2, 90)
    _, gradients = run(current, upstream, Dynamics(), RGA(1.0, 1e6).rule(Dynamics()), backend)
    slope = 1 / 1e6  # of the integrate-and-fire neuron whose rate reaches one at beta
    assert_close_rms(gradients["current"] / slope, upstream * (current.mean(0) > 0))


def test_rga_map_is_continuous_and_reaches_one():
    dynamics = Dynamics(decay=0.6, threshold=0.8)
    rule = RGA(gamma=0.3, beta=2.5).rule(dynamics)
    below, above = rule.slope, rule.upper_slope
    rheobase, top = 0.4 * 0.8, 2.5 * 0.8
    assert below * rheobase + above * (top - rheobase) == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_hart_with_a_mean_readout_is_a_mean_slope(backend):
    current, upstream = torch.randn(8, 2, 90), torch.randn(1, 2, 90).expand(8, 2, 90)
    _, gradients = run(current, upstream, Dynamics(0.5), TimeAverage(TRIANGLE), backend)
    got = gradients["current"]
    assert torch.equal(got, got[:1].expand_as(got))
    _, first = run(current, torch.ones_like(current), Dynamics(0.5), TimeAverage(TRIANGLE), backend)
    assert_close_rms(got, first["current"] * upstream)


def test_gate_gradient_estimates_the_true_one():
    """Oracle: `d/dp E[c G] = c`, estimated by the relaxation within its known bias."""
    keys = sample_keys(0, torch.arange(4000))
    bias = {0.1: 1.12, 0.3: 0.91, 0.5: 0.86, 0.7: 0.91, 0.9: 1.12}
    for p, expected in bias.items():
        probability = torch.full((8,), p, requires_grad=True)
        ones = torch.full((1, 4000, 8), 2.0)
        spikes = spiking_loop(ones, Dynamics(), gate=Gate(probability, keys))
        spikes.mean().backward()
        assert probability.grad.sum().item() == pytest.approx(expected, abs=0.06)
        assert spikes.mean().item() == pytest.approx(p, abs=0.01)
    edge = torch.ones(3, requires_grad=True)
    relaxed_gate(edge, torch.tensor([0.0, 0.5, 0.999])).sum().backward()
    assert edge.grad.isfinite().all()


@pytest.mark.parametrize("family", ["gaussian", "sigmoid", "rectangle", "triangle", "atan"])
def test_noisy_rate_is_the_distribution(family):
    z = torch.linspace(-3, 3, 13)
    noise = NoisyFiring(family, 1.2, sample_keys(1, torch.arange(20000)), 3)
    current = (z + 1).expand(1, 20000, 13)
    rate = spiking_loop(current, Dynamics(), noise=noise).mean((0, 1))
    assert (rate - firing_probability(z, noise)).abs().max() < 0.015
    assert firing_table(family).diff().min() >= 0
    wide = torch.linspace(-60, 60, 240001, dtype=torch.float64)
    density = Surrogate(family, 1.2)
    slope = firing_probability(wide, noise).diff() / wide.diff()
    centre = derivative((wide[1:] + wide[:-1]) / 2, density, 1.2)
    assert (slope - centre).abs().mean() < 1e-3
    assert derivative(torch.tensor([-1e4, 1e4]), density, 1.2).isfinite().all()
