"""NaN, infinities, subnormal and huge numbers in every kernel: no crash, and the same spikes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from devices import INTERPRETED
from loops import BACKENDS, COMPILED
from robust_snn.kernels import Dynamics, NoisyFiring, sample_keys, spiking_loop
from robust_snn.kernels.spiking.firing_probability import (
    CUMULATIVE,
    FARTHEST,
    firing_probability,
)
from robust_snn.neurons import LIF, NOISES, NoisyLIF, parse_noise

COUNT, LAYERS = (20, 10) if INTERPRETED else (60, 12)
TESTS = Path(__file__).parents[1]


def in_a_child(code: str) -> str:
    """What the code prints; a process of its own shows a crash without ending the tests."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.cpu_only
@pytest.mark.parametrize("backend", COMPILED)
def test_no_number_ends_the_process(backend):
    assert "done" in in_a_child(
        f"import odd_numbers; odd_numbers.search({backend!r}, {COUNT}, {LAYERS}); print('done')"
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", CUMULATIVE)
def test_far_from_the_threshold_noise_decides_nothing(backend, family):
    far = torch.tensor([math.inf, 3e38, FARTHEST, -FARTHEST, -3e38, -math.inf, math.nan])
    current = far.expand(3, 1, -1)
    keys = sample_keys(0, torch.arange(1))
    for mean in (False, True):
        noise = NoisyFiring(family, 3.0, keys, mean=mean)
        spikes = spiking_loop(current, Dynamics(), noise=noise, backend=backend)
        found = spikes[0, 0].nan_to_num(0.5).tolist()
        assert found == [1, 1, 1, 0, 0, 0, 0.5 if mean else 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_an_infinite_current_fires_and_a_reset_ends_it(backend, reset):
    current = torch.tensor([[math.inf], [0.0], [0.0]]).unsqueeze(-1)
    spikes = LIF(reset=reset, backend=backend)(current).flatten().tolist()
    assert spikes == ([1, 0, 0] if reset == "hard" else [1, 1, 1])


@pytest.mark.parametrize("family", NOISES)
def test_quantiles_are_finite_at_every_draw(family):
    """The draws next to 0 and 1, which half a step of 2**-24 keeps apart in float64 alone."""
    ends = torch.tensor([0.0, 1 - 2.0**-24], dtype=torch.float64) + 2.0**-25
    low, high = parse_noise(family).quantile(ends).tolist()
    assert -math.inf < low == pytest.approx(-high, rel=1e-6) and high > 0
    neuron = NoisyLIF(family, form="double")
    noise = neuron.membrane_noise.spec(2, ends.device)
    assert neuron.membrane_noise.injected(noise, (3,), 4).dtype == torch.float64


@pytest.mark.parametrize("family", CUMULATIVE)
def test_the_table_is_as_good_as_it_says(family):
    z = torch.cat([torch.linspace(-30, 30, 200_001), torch.linspace(-1.1, 1.1, 200_001)])
    noise = NoisyFiring(family, 1.0, torch.zeros(1, dtype=torch.int64))
    error = (firing_probability(z, noise) - CUMULATIVE[family](z.double())).abs().max()
    assert error < (9e-7 if family == "triangle" else 6e-7)
