"""A seeded search for numbers that a kernel cannot take: `python -c` of `test_odd_numbers` runs it.

Kernels index tables by what they compute, so a NaN in the wrong place ends the process.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

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
            WidthBySpread("sample"),
        ]
    )


def spiking(backend: str, seed: int) -> None:
    """One layer: spikes as the reference has them, and gradients where no odd number was."""
    choice = random.Random(seed)
    torch.manual_seed(seed)
    rule, steps, batch, sample = _rule(choice), choice.randint(1, 6), 2, (3, 5)
    current = sprinkled((choice.choice([1, steps]), batch, *sample), choice)
    current = current.to(choice.choice([torch.float32, torch.float32, torch.float16]))
    ordinary = (current.abs() < 100).all(0)
    keys, mean, build = sample_keys(seed, torch.arange(batch)), choice.random() < 0.3, {}
    if choice.random() < 0.5:
        opening = torch.rand(sample) * 0.9 + 0.1
        build["gate"] = Gate(opening, keys, 1, mean)
    if choice.random() < 0.3:
        build["membrane_gain"] = torch.rand(steps)
    if choice.random() < 0.3:
        build["affine"] = (sprinkled((3,), choice), torch.zeros(3))
        ordinary &= (build["affine"][0].abs() < 100).view(3, 1)
    if choice.random() < 0.6 and not getattr(rule, "compact", False):
        family = choice.choice(list(CUMULATIVE))
        build["noise"] = NoisyFiring(family, choice.choice([1.0, 5.0]), keys, 2, mean)
    dynamics = Dynamics(
        decay=choice.choice([1.0, 0.5]),
        threshold=choice.choice([1.0, 0.5]),
        gain=choice.choice([1.0, 0.5]),
        reset=choice.choice(["hard", "soft"]),
        v_reset=choice.choice([0.0, -0.2]),
    )
    upstream = torch.randn(steps, batch, *sample).to(current.dtype)
    call = {"build": lambda _: build, "steps": steps}
    expected, gradients = run(current, upstream, dynamics, rule, "torch", **call)
    spikes, got = run(current, upstream, dynamics, rule, backend, **call)
    torch.testing.assert_close(spikes, expected, rtol=0, atol=0, equal_nan=True)
    comparable = current.dtype == torch.float32 and not isinstance(rule, WidthBySpread)
    if comparable and ordinary.any():
        ratio = 0.02 if getattr(rule, "compact", False) else 1e-5
        fine = [g["current"][:, ordinary] + 1e-30 for g in (got, gradients)]
        assert_close_rms(*fine, ratio)


def convolving(seed: int) -> None:
    """Spikes of a layer, or numbers that are none, which the kernel must leave to others."""
    choice = random.Random(seed)
    torch.manual_seed(seed)
    spikes = (torch.rand(2, choice.choice([3, 16]), 6, 6) < 0.2).float()
    weight = torch.randn(5, spikes.shape[1], 3, 3)
    how = choice.choice([1, 2]), choice.choice([0, 1])
    out = event_driven_convolution(spikes, weight, None, *how)
    expected = reference_convolution(spikes, weight, None, *how)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    spikes.view(-1)[choice.randrange(spikes.numel())] = odd = choice.choice(ODD)
    assert (event_driven_convolution(spikes, weight, None, *how) is None) == (odd not in (0, 1))


def search(backend: str, count: int) -> None:
    """Ends with an error, or not at all, if a kernel cannot take what a seed makes."""
    torch.set_num_threads(1)
    for seed in range(count):
        try:
            spiking(backend, seed)
            if backend == "numba":
                convolving(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
