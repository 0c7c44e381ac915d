"""Compiled backends against the reference, over shapes, dynamics, rules, gates and gains."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import GPU, INTERPRETED
from helpers import assert_close_rms
from loops import BACKENDS, COMPILED, run
from robust_snn.gradients import GradientMode
from robust_snn.gradients.modes import BPTR, HART, RGA
from robust_snn.kernels import (
    Dynamics,
    Gate,
    NoisyFiring,
    RateSlope,
    Recursion,
    Surrogate,
    TimeAverage,
    WidthBySpread,
    sample_keys,
    spiking_loop,
)
from robust_snn.kernels.spiking.firing_probability import CUMULATIVE
from robust_snn.kernels.spiking.surrogate_shapes import UNIT_SHAPES
from robust_snn.utils.errors import InputError

SAMPLES = [(1,), (3,), (63,), (127,), (2, 5, 5), (3, 17, 13), (600,), (5000,)]

dynamics = st.builds(
    Dynamics,
    decay=st.sampled_from([1.0, 0.99, 0.9, 0.5, 0.3]),
    threshold=st.sampled_from([1.0, 0.5, 0.7]),
    gain=st.sampled_from([1.0, 0.5, 0.3]),
    reset=st.sampled_from(["hard", "soft"]),
    v_reset=st.sampled_from([0.0, 0.1, -0.2]),
    drop=st.sampled_from([None, 1.2]),
)
surrogates = st.builds(
    Surrogate,
    family=st.sampled_from(list(UNIT_SHAPES)),
    sharpness=st.sampled_from([0.5, 1.0, 2.0]),
    scale=st.sampled_from([1.0, 0.3]),
    floor=st.sampled_from([0.0, 0.1]),
)
rules = st.one_of(
    st.builds(Recursion, surrogate=surrogates, detach_reset=st.booleans()),
    st.builds(BPTR),
    st.builds(RGA, gamma=st.sampled_from([0.2, 0.5]), beta=st.sampled_from([1.5, 2.0])),
    st.builds(TimeAverage, surrogate=surrogates),
    st.builds(WidthBySpread, scope=st.sampled_from(["sample", "batch"])),
)


@st.composite
def calls(draw):
    """Everything a call needs, built from one seed."""
    steps, batch = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    sample = draw(st.sampled_from(SAMPLES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    rand = lambda *size: torch.rand(*size, generator=generator)  # noqa: E731
    parameters = {}
    if draw(st.booleans()):
        parameters |= {"scale": rand(sample[0]) + 0.5, "shift": rand(sample[0]) - 0.5}
    if draw(st.booleans()):
        parameters["membrane_gain"] = rand(steps) + 0.5
    if draw(st.booleans()):
        parameters["input_gain"] = rand(steps) + 0.5
    gate = draw(st.sampled_from(["none", "draw", "mean"]))
    if gate != "none":
        parameters["probability"] = rand(sample) * 0.9 + 0.1
    keys = sample_keys(draw(st.integers(0, 2**40)), torch.arange(batch))
    noise = None
    if draw(st.booleans()):
        family = draw(st.sampled_from(list(CUMULATIVE)))
        noise = NoisyFiring(family, draw(st.sampled_from([1.0, 3.0])), keys, 6, draw(st.booleans()))

    def build(p):
        affine = (p["scale"], p["shift"]) if "scale" in p else None
        gated = Gate(p["probability"], keys, 5, gate == "mean") if gate != "none" else None
        gains = {name: p.get(name) for name in ("membrane_gain", "input_gain")}
        return {"affine": affine, "gate": gated, "noise": noise, **gains}

    current = torch.randn(draw(st.sampled_from([1, steps])), batch, *sample, generator=generator)
    upstream = torch.randn(steps, batch, *sample, generator=generator)
    return current, upstream, {"build": build, "parameters": parameters, "steps": steps}


# The interpreter is slow, and a GPU compiles a kernel for almost every example.
EXAMPLES = 25 if INTERPRETED else 12 if GPU else 200


@pytest.mark.parametrize("backend", COMPILED)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(call=calls(), neuron=dynamics, rule=rules)
def test_agrees_with_the_reference(backend, call, neuron, rule):
    current, upstream, arguments = call
    rule = rule.rule(neuron) if isinstance(rule, GradientMode) else rule
    expected, gradients = run(current, upstream, neuron, rule, "torch", **arguments)
    spikes, got = run(current, upstream, neuron, rule, backend, **arguments)
    assert torch.equal(spikes, expected)
    assert_close_rms(got["current"] + 1e-30, gradients["current"] + 1e-30)  # no subnormal numbers
    for name, gradient in gradients.items():  # of parameters: sums whose terms may cancel
        error, size = (x.square().mean().sqrt() for x in (got[name] - gradient, gradient))
        assert error <= 2e-5 * max(1, size), name


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_float32_membranes(backend, dtype):
    torch.manual_seed(0)
    current, upstream = torch.randn(8, 2, 3, 9, 9).to(dtype), torch.randn(8, 2, 3, 9, 9).to(dtype)
    rule = Recursion(Surrogate("triangle", 1.0))
    expected, gradients = run(current, upstream, Dynamics(0.9), rule, "torch")
    spikes, got = run(current, upstream, Dynamics(0.9), rule, backend)
    assert spikes.dtype == got["current"].dtype == dtype
    assert torch.equal(spikes, expected)
    assert_close_rms(got["current"], gradients["current"], torch.finfo(dtype).eps)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("rule", [BPTR(), RGA(), HART()], ids=lambda rule: rule.name)
def test_means_over_steps_fit_into_float16(backend, rule):
    """Sums over the steps would not: they are divided before they are rounded."""
    steps = 16
    current = torch.rand(steps, 2, 40).half()
    upstream = torch.full((1, 2, 40), 9000.0).half().expand(steps, 2, 40)
    expected, got = (
        run(x, g, Dynamics(), rule.rule(Dynamics()), backend)[1]["current"].float()
        for x, g in ((current.float(), upstream.float()), (current, upstream))
    )
    assert expected.abs().max() * steps > torch.finfo(torch.float16).max
    assert_close_rms(got, expected, torch.finfo(torch.float16).eps)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("detach", [False, True])
def test_compact_rounds_the_gradient_alone(backend, detach):
    """One byte per neuron and step: 7 bits of the membrane, and the spike."""
    torch.manual_seed(0)
    current, upstream = torch.randn(2, 7, 3, 2, 30, 31)
    keys, probability = sample_keys(0, torch.arange(3)), torch.full((2, 30, 31), 0.6)
    surrogate = Surrogate("triangle", 2.0, scale=0.7)
    arguments = {"build": lambda p: {"gate": Gate(probability, keys)}}
    dynamics = Dynamics(0.9, threshold=0.8)
    exact, compact = (
        run(
            current,
            upstream,
            dynamics,
            Recursion(surrogate, detach, compact=c),
            backend,
            **arguments,
        )
        for c in (False, True)
    )
    assert torch.equal(exact[0], compact[0])
    assert_close_rms(compact[1]["current"], exact[1]["current"], 0.01)
    support = exact[1]["current"] == 0
    assert (compact[1]["current"][support].abs() < 0.01).all()
    leaf = current.clone().requires_grad_()
    spikes = spiking_loop(leaf, dynamics, Recursion(surrogate, compact=True), backend=backend)
    kept = [t for t in spikes.grad_fn.saved_tensors if t is not None]
    assert sum(t.numel() * t.element_size() for t in kept) == current.numel()


def test_compact_says_what_it_cannot_do():
    current, keys = torch.zeros(2, 1, 3), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(InputError, match="triangle"):
        spiking_loop(current, Dynamics(), Recursion(Surrogate("atan", 2.0), compact=True))
    with pytest.raises(InputError, match="noise"):
        rule = Recursion(Surrogate("triangle", 1.0), compact=True)
        spiking_loop(current, Dynamics(), rule, noise=NoisyFiring("gaussian", 1.0, keys))


def _channels_last(tensor):
    merged = tensor.flatten(0, 1).to(memory_format=torch.channels_last)
    return merged.view(tensor.shape)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "rule", [Recursion(Surrogate("atan", 2.0)), RateSlope(1.0), WidthBySpread("sample")]
)
def test_layouts_and_expanded_gradients(backend, rule):
    current = torch.randn(5, 3, 5, 6, 7)
    upstream = torch.randn(3, 5, 1, 1).expand(5, 3, 5, 6, 7)
    keys = sample_keys(0, torch.arange(3))
    parameters = {
        "probability": torch.rand(5, 6, 7) * 0.9 + 0.1,
        "scale": torch.rand(5) + 0.5,
        "shift": torch.rand(5),
    }

    def build(p):
        gate, noise = Gate(p["probability"], keys), NoisyFiring("gaussian", 3.0, keys)
        return {"gate": gate, "noise": noise, "affine": (p["scale"], p["shift"])}

    def spike(laid_out):
        leaves = {k: v.clone().requires_grad_() for k, v in parameters.items()}
        leaf = laid_out.detach().requires_grad_()
        spikes = spiking_loop(leaf, Dynamics(), rule, backend=backend, **build(leaves))
        return spikes, torch.autograd.grad(spikes, [leaf, *leaves.values()], upstream)

    expected, gradients = spike(current)
    strided = torch.randn(5, 3, 10, 6, 7)[:, :, ::2].copy_(current)
    for laid_out in (_channels_last(current), strided):
        spikes, got = spike(laid_out)
        assert torch.equal(spikes, expected)
        for gradient, wanted in zip(got, gradients, strict=True):
            assert_close_rms(gradient, wanted)


def test_channels_last_stays_channels_last(compiled):
    current = _channels_last(torch.randn(5, 3, 5, 6, 7)).requires_grad_()
    spikes = spiking_loop(current, Dynamics(), Recursion(Surrogate("atan", 2.0)), backend=compiled)
    (gradient,) = torch.autograd.grad(spikes, current, torch.randn_like(spikes))
    assert spikes.stride() == gradient.stride() == current.stride()


@pytest.mark.parametrize("backend", BACKENDS)
def test_repeated_backward_is_identical(backend):
    current = torch.randn(6, 2, 40, requires_grad=True)
    probability = torch.full((40,), 0.5, requires_grad=True)
    gate = Gate(probability, sample_keys(0, torch.arange(2)))
    spikes = spiking_loop(
        current, Dynamics(), Recursion(Surrogate("triangle", 1.0)), gate=gate, backend=backend
    )
    upstream = torch.randn_like(spikes)
    leaves = (current, probability)
    first = torch.autograd.grad(spikes, leaves, upstream, retain_graph=True)
    second = torch.autograd.grad(spikes, leaves, upstream)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_ignore_batch_split_and_order(backend):
    torch.manual_seed(0)
    current = torch.randn(6, 8, 3, 4, 4) + 0.5
    keys = sample_keys(3, torch.arange(8))
    probability = torch.rand(3, 4, 4) * 0.9 + 0.1

    def spikes(index):
        gate, noise = (
            Gate(probability, keys[index], 4),
            NoisyFiring("gaussian", 2.0, keys[index], 5),
        )
        random = {"gate": gate, "noise": noise}
        return spiking_loop(current[:, index], Dynamics(), backend=backend, **random)

    together = spikes(list(range(8)))
    for index in ([0], [5, 2, 7], list(range(7, -1, -1))):
        assert torch.equal(spikes(index), together[:, index])


@pytest.mark.parametrize("backend", COMPILED)
def test_every_output_is_written(backend, poisoned_empty):
    for sample, steps in (((1,), 1), ((4097,), 3), ((2, 3, 5), 9)):
        current, upstream = torch.randn(2, steps, 2, *sample)
        triangle = Surrogate("triangle", 1.0)
        for rule in (
            RateSlope(1.0),
            RGA().rule(Dynamics()),
            TimeAverage(triangle),
            Recursion(Surrogate("sigmoid", 4.0)),
            Recursion(triangle, compact=True),
        ):
            spikes, gradients = run(current, upstream, Dynamics(), rule, backend)
            assert spikes.isfinite().all()
            assert gradients["current"].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch(backend):
    current = torch.randn(4, 0, 3, 2, 2, requires_grad=True)
    spikes = spiking_loop(current, Dynamics(), backend=backend)
    spikes.sum().backward()
    assert spikes.shape == current.grad.shape == (4, 0, 3, 2, 2)
