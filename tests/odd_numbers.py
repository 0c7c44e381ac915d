"""A seeded search for numbers that a kernel cannot take: `python -c` of `test_odd_numbers` runs it.

Kernels index tables by what they compute, so a NaN in the wrong place ends the process.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from devices import INTERPRETED
from helpers import assert_close_rms
from loops import run
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
)
from robust_snn.kernels.convolution.event_driven import event_driven_convolution
from robust_snn.kernels.convolution.reference import reference_convolution
from robust_snn.kernels.spiking.firing_probability import CUMULATIVE
from robust_snn.kernels.spiking.surrogate_shapes import UNIT_SHAPES

ODD = (
    *(float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e-45, -1e-39, 1.2e-38),
    *(3.4e38, -3.4e38, 1e30, -1e19, 2.0**31, -(2.0**31), 2.0**63, 65504.0, 1 - 2.0**-24, 1.0),
)


def sprinkled(size: tuple[int, ...], choice: random.Random, share: float = 0.3) -> Tensor:
    """Ordinary numbers, some of them replaced by odd ones."""
    numbers = torch.randn(size) + 0.5
    flat = numbers.view(-1)
    for place in range(flat.numel()):
        if choice.random() < share:
            flat[place] = choice.choice(ODD)
    return numbers


def _rule(choice: random.Random) -> object:
    family = choice.choice(list(UNIT_SHAPES))
    surrogate = Surrogate(family, choice.choice([0.5, 1.0, 4.0]), 1.0, choice.choice([0.0, 0.1]))
    return choice.choice(
        [
            Recursion(surrogate, choice.random() < 0.5),
            Recursion(Surrogate("triangle", 1.0), compact=True),
            RateSlope(1.0),
            RateSlope(0.4, 0.2, (1.0, 2.0)),
            TimeAverage(surrogate),
            WidthBySpread(choice.choice(["sample", "batch"])),
        ]
    )


def spiking(backend: str, layer: int, seed: int) -> None:
    """One layer: spikes as the reference has them, and gradients where no odd number was.

    `layer` decides what is compiled, `seed` which numbers it meets.
    """
    choice, numbers = random.Random(layer), random.Random(seed)
    torch.manual_seed(seed)
    rule, steps, batch = _rule(choice), choice.choice([1, 2, 4, 5, 9]), choice.choice([1, 2, 3])
    sample = choice.choice([(3, 5), (3,), (67,), (3, 2, 2)])
    current = sprinkled((choice.choice([1, steps]), batch, *sample), numbers)
    half = choice.choice([torch.float16, torch.bfloat16])
    if INTERPRETED:  # which cuts bfloat16 off where it rounds, and misreads its subnormals
        half = torch.float16
    current = current.to(choice.choice([torch.float32, torch.float32, half]))
    ordinary = (current.abs() < 100).all(0)
    keys, mean, build = sample_keys(seed, torch.arange(batch)), choice.random() < 0.3, {}
    if choice.random() < 0.5:
        opening = torch.rand(sample) * 0.9 + 0.1
        build["gate"] = Gate(opening, keys, 1, mean)
    for gain in ("membrane_gain", "input_gain"):
        if choice.random() < 0.3:
            build[gain] = torch.rand(steps)
            if numbers.random() < 0.3:
                build[gain], ordinary = sprinkled((steps,), numbers), ordinary & False
    if choice.random() < 0.3:
        build["affine"] = (sprinkled((sample[0],), numbers), sprinkled((sample[0],), numbers, 0.1))
        fine = (build["affine"][0].abs() < 100) & (build["affine"][1].abs() < 100)
        ordinary &= fine.view(-1, *[1] * (len(sample) - 1))
    if choice.random() < 0.6 and not getattr(rule, "compact", False):
        family = choice.choice(list(CUMULATIVE))
        build["noise"] = NoisyFiring(family, numbers.choice([1.0, 5.0, 1e-38, 3e38]), keys, 2, mean)
    dynamics = Dynamics(
        decay=numbers.choice([1.0, 0.5, 1e-30]),
        threshold=numbers.choice([1.0, 0.5, 1e-40, 3e38]),
        gain=numbers.choice([1.0, 0.5, 3e38]),
        reset=choice.choice(["hard", "soft"]),
        v_reset=numbers.choice([0.0, -0.2, -3e38]),
    )
    usual = dynamics.decay > 0.1 and 0.1 < dynamics.threshold < 2 > dynamics.gain
    usual &= dynamics.v_reset > -1 and ("noise" not in build or build["noise"].sharpness in (1, 5))
    upstream = torch.randn(steps, batch, *sample).to(current.dtype)
    if numbers.random() < 0.2:
        upstream, usual = sprinkled(tuple(upstream.shape), numbers).to(current.dtype), False
    call = {"build": lambda _: build, "steps": steps}
    expected, gradients = run(current, upstream, dynamics, rule, "torch", **call)
    spikes, got = run(current, upstream, dynamics, rule, backend, **call)
    torch.testing.assert_close(spikes, expected, rtol=0, atol=0, equal_nan=True)
    comparable = current.dtype == torch.float32 and not isinstance(rule, WidthBySpread)
    if comparable and usual and ordinary.any():
        ratio = 0.02 if getattr(rule, "compact", False) else 1e-5
        fine = [g["current"][:, ordinary] + 1e-30 for g in (got, gradients)]
        assert_close_rms(*fine, ratio)


def convolving(seed: int) -> None:
    """Spikes of a layer, or numbers that are none, which the kernel must leave to others."""
    choice = random.Random(seed)
    torch.manual_seed(seed)
    high, wide = choice.choice([1, 5, 6]), choice.choice([3, 6, 33])
    spikes = (torch.rand(2, choice.choice([1, 3, 16, 70]), high, wide) < 0.2).float()
    spikes = spikes.to(choice.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16]))
    weight = torch.randn(choice.choice([1, 5, 67]), spikes.shape[1], 3, choice.choice([1, 3]))
    bias = torch.randn(len(weight)) if choice.random() < 0.5 else None
    how = choice.choice([1, 2, 3]), choice.choice([1, 2])
    out = event_driven_convolution(spikes, weight, bias, *how)
    expected = reference_convolution(spikes, weight, bias, *how)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    event_driven_convolution(spikes, sprinkled(tuple(weight.shape), choice), bias, *how)
    odd = torch.tensor(choice.choice(ODD)).to(spikes.dtype)
    spikes.view(-1)[choice.randrange(spikes.numel())] = odd
    out = event_driven_convolution(spikes, weight, bias, *how)
    assert out is None or odd in (0, 1)


def search(backend: str, count: int, layers: int) -> None:
    """Ends with an error, or not at all, if a kernel cannot take what a seed makes.

    Compiling a layer takes longer than all its numbers: `layers` of them share `count` seeds.
    """
    torch.set_num_threads(1)
    for seed in range(count):
        try:
            spiking(backend, seed % layers, seed)
            if backend == "numba":
                convolving(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
