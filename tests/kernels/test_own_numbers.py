"""Leaks and thresholds of every neuron its own, spikes of several levels: backends agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from devices import GPU, INTERPRETED
from helpers import assert_close_rms
from loops import COMPILED, run
from robust_snn.kernels import (
    Dynamics,
    Gate,
    Homeostasis,
    NoisyFiring,
    RateSlope,
    Recursion,
    Surrogate,
    TimeAverage,
    WidthBySpread,
    sample_keys,
    spiking_loop,
)
from robust_snn.utils.errors import InputError

EXAMPLES = 15 if INTERPRETED else 8 if GPU else 60
SAMPLES = [(1,), (3,), (63,), (127,), (2, 5, 5), (3, 17, 13), (5000,)]
TRIANGLE, ATAN = Surrogate("triangle", 1.0), Surrogate("atan", 2.0)
RULES = [
    Recursion(TRIANGLE),
    Recursion(TRIANGLE, detach_reset=True),
    Recursion(TRIANGLE, compact=True),
    Recursion(Surrogate("rectangle", 1.0)),
    Recursion(ATAN),
    RateSlope(1.0),
    RateSlope(0.4, 0.2, (1.0, 2.0)),
    TimeAverage(ATAN),
    WidthBySpread("sample"),
]
LEVELS = Dynamics(0.8, threshold=0.5, reset="soft", drop=1.0, levels=4)
ADAPTING = [Dynamics(0.5), Dynamics(0.9, 0.7, 0.5, "hard", -0.2), Dynamics(0.6, reset="soft")]


@dataclass
class Layer:
    """What a call needs besides its current."""

    dynamics: Dynamics
    parameters: dict[str, Tensor] = field(default_factory=dict)
    usual: Tensor | None = None
    gate: Gate | None = None

    def build(self, p: dict[str, Tensor]) -> dict[str, Any]:
        adapting = None if self.usual is None else Homeostasis(p["rate"], self.usual)
        return {
            "membrane_gain": p.get("leak"),
            "homeostasis": adapting,
            "gate": self.gate,
            "affine": (p["scale"], p["shift"]) if "scale" in p else None,
        }


def leaking(steps: int, batch: int, sample: tuple[int, ...], wide: int) -> Layer:
    """Leaks per step, per step and sample, per sample, per channel, some of them negative."""
    shapes = [(steps, 1, *sample), (steps, batch, *sample), (1, batch, *sample)]
    shapes.append((steps, 1, sample[0], *[1] * (len(sample) - 1)))
    leak = torch.rand(shapes[wide % 4]) * 1.4 - 0.3
    parameters = {"leak": leak}
    if wide == 4:
        parameters |= {"scale": torch.rand(sample[0]) + 0.5, "shift": torch.rand(sample[0]) - 0.5}
    dynamics = Dynamics(0.9, v_reset=0.1) if wide % 2 else Dynamics(reset="soft")
    return Layer(dynamics, parameters)


def counting(steps: int, batch: int, sample: tuple[int, ...], wide: int) -> Layer:
    """Spikes 0, ..., 4, also with thresholds that are not one apart."""
    return Layer(LEVELS if wide % 2 else Dynamics(0.9, 0.4, reset="soft", drop=0.7, levels=3))


def adapting(steps: int, batch: int, sample: tuple[int, ...], wide: int) -> Layer:
    parameters = {"rate": torch.rand(sample)}
    return Layer(ADAPTING[wide % 3], parameters, torch.rand(steps, *sample))


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("kind", [leaking, counting, adapting])
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 17),
    batch=st.integers(1, 3),
    sample=st.sampled_from(SAMPLES),
    rule=st.sampled_from(RULES),
    wide=st.integers(0, 5),
    constant=st.booleans(),
)
def test_agrees_with_the_reference(backend, kind, steps, batch, sample, rule, wide, constant):
    torch.manual_seed(steps * 1000 + len(sample) * 100 + wide)
    layer = kind(steps, batch, sample, wide)
    current = torch.randn(1 if constant else steps, batch, *sample) * 1.5
    upstream = torch.randn(steps, batch, *sample)
    call = layer.build, layer.parameters, steps
    expected, gradients = run(current, upstream, layer.dynamics, rule, "torch", *call)
    spikes, got = run(current, upstream, layer.dynamics, rule, backend, *call)
    assert torch.equal(spikes, expected)
    exact = not (isinstance(rule, Recursion) and rule.compact and kind is leaking)
    for name, gradient in gradients.items():
        if exact or name != "current":
            error, size = (x.square().mean().sqrt() for x in (got[name] - gradient, gradient))
            assert error <= 2e-5 * max(1, size), name


def _layers() -> dict[str, Layer]:
    torch.manual_seed(0)
    steps, batch, sample = 7, 3, (5, 6, 7)
    gate = Gate(torch.rand(sample) * 0.9 + 0.1, sample_keys(0, torch.arange(batch)))
    leaks = torch.rand(steps, 1, *sample) + 0.3
    drawn = torch.rand(1, batch, *sample)
    return {
        "leaks": Layer(Dynamics(0.9), {"leak": leaks}),
        "gated": Layer(Dynamics(0.9), {"leak": drawn}, gate=gate),
        "levels": Layer(LEVELS, gate=gate),
        "adapting": Layer(Dynamics(0.5), {"rate": torch.rand(sample)}, torch.rand(steps, *sample)),
    }


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("name", ["leaks", "gated", "levels", "adapting"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_channels_last_and_half_precision(backend, name, dtype):
    layer = _layers()[name]
    current, upstream = torch.randn(2, 7, 3, 5, 6, 7).to(dtype)
    call = layer.dynamics, Recursion(TRIANGLE)
    arguments = {"build": layer.build, "parameters": layer.parameters}
    expected, gradients = run(current, upstream, *call, "torch", **arguments)
    laid_out = current.flatten(0, 1).to(memory_format=torch.channels_last).view(current.shape)
    for given_as in (current, laid_out):
        spikes, got = run(given_as, upstream, *call, backend, **arguments)
        assert spikes.dtype == dtype and torch.equal(spikes, expected)
        for key, gradient in gradients.items():
            assert_close_rms(got[key], gradient, max(1e-5, torch.finfo(dtype).eps))


@pytest.mark.parametrize("name", ["leaks", "levels", "adapting"])
def test_float64_goes_to_the_reference_and_its_gradients_are_near(name):
    layer = _layers()[name]
    current, upstream = torch.randn(2, 7, 3, 5, 6, 7)
    wide = {key: value.double() for key, value in layer.parameters.items()}
    usual = None if layer.usual is None else layer.usual.double()
    exact = Layer(layer.dynamics, wide, usual)
    call = layer.dynamics, Recursion(ATAN), "auto"
    expected, gradients = run(current.double(), upstream.double(), *call, exact.build, wide)
    layer.gate = None
    spikes, got = run(current, upstream, *call, layer.build, layer.parameters)
    assert torch.equal(spikes.double(), expected)
    for key, gradient in gradients.items():
        assert_close_rms(got[key].double(), gradient, 2e-5)


@pytest.mark.parametrize("backend", COMPILED)
def test_every_output_is_written(backend, poisoned_empty):
    for layer in _layers().values():
        current, upstream = torch.randn(2, 7, 3, 5, 6, 7)
        call = layer.dynamics, Recursion(TRIANGLE), backend, layer.build, layer.parameters
        spikes, gradients = run(current, upstream, *call)
        assert spikes.isfinite().all() and all(g.isfinite().all() for g in gradients.values())


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("name", ["leaks", "levels", "adapting"])
def test_odd_numbers_fire_as_in_the_reference(backend, name):
    layer = _layers()[name]
    layer.gate = None
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-45, -0.0, 0.5])
    current = odd[torch.randint(len(odd), (7, 3, 5, 6, 7))]
    expected, spikes = (
        spiking_loop(current, layer.dynamics, backend=b, **layer.build(layer.parameters))
        for b in ("torch", backend)
    )
    assert torch.equal(spikes.nan_to_num(-1), expected.nan_to_num(-1))


def test_what_no_compiled_loop_has_is_refused_by_name(compiled):
    current, keys = torch.rand(2, 1, 3), torch.zeros(1, dtype=torch.int64)
    rate, usual = torch.rand(3), torch.rand(2, 3)
    noise = NoisyFiring("gaussian", 1.0, keys)
    adapting = Homeostasis(rate, usual)
    trained = Homeostasis(rate, usual.clone().requires_grad_())
    for message, dynamics, call in (
        ("under membrane noise", Dynamics(), {"homeostasis": adapting, "noise": noise}),
        ("no several thresholds that adapt", LEVELS, {"homeostasis": adapting}),
        ("no gradient on usual membranes", Dynamics(), {"homeostasis": trained}),
    ):
        with pytest.raises(InputError, match=message):
            spiking_loop(current, dynamics, backend=compiled, **call)
        spiking_loop(current, dynamics, **call)  # the reference takes it
