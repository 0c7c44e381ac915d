"""The parts of the event examples that do not take minutes."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import torch

from robust_snn import Victim
from robust_snn.data import load_dataset
from zoo import awake, narrow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_forecaster_learns() -> None:
    example = runpy.run_path(str(EXAMPLES / "sine_forecasting.py"))
    net, error = example["trained"](40)
    x, y = example["series"](3, torch.Generator().manual_seed(2))
    assert x.shape == (3, 48, 1, 1, 1) and x.min() >= 0 and x.max() <= 1
    assert torch.allclose(2 * x[:, 1:].flatten(1) - 1, y[:, :-1], atol=1e-6)
    assert net(x).shape == (3, 48)
    assert error < 0.5  # what an answer of 0 would get


def test_levels_of_noise_are_those_of_copies() -> None:
    example = runpy.run_path(str(EXAMPLES / "noise_level.py"))
    x = (torch.rand(6, 4, 2, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    for name, move, quiet in (
        ("snn_vggsnn_nlif", example["at_sigma"], 1e-9),
        ("snn_vggsnn_stog", example["at_opening"], 1.0),
    ):
        victim = Victim(awake(narrow(name, "fresh", in_chans=2), x))
        before, ids = victim.sample(x, torch.arange(6)), torch.arange(6)
        still = move(victim, quiet)
        assert torch.allclose(still.sample(x, ids, 0), still.sample(x, ids, 1), atol=1e-5)
        assert torch.equal(victim.sample(x, ids), before)


def test_tables_have_intervals() -> None:
    example = runpy.run_path(str(EXAMPLES / "event_tables.py"))
    data = load_dataset("digits-events", n=4, steps=2)
    victim = Victim(awake(narrow("snn_vggsnn_nlif", "fresh", in_chans=2), data.images))
    found = example["rows_of"]([victim], data, 2)
    assert {"clean", "mixed drop 0.05", "exact flips 0.04"} <= set(found)
    assert all(m.loss_ci[0] <= m.loss <= m.loss_ci[1] for m in found.values())


def test_statistics_of_flips_count_failures() -> None:
    flip_statistics = runpy.run_path(str(EXAMPLES / "event_tables.py"))["flip_statistics"]
    flips = np.array([10, 300, 900, 40, 5])
    fooled = np.array([True, True, True, True, False])
    found = flip_statistics(flips, fooled)
    assert found.success[200].value == 0.4 and found.success[800].value == 0.6
    assert found.median == 300 and found.median_of_successes == 170
    assert flip_statistics(flips, ~fooled).median == np.inf
    assert np.isnan(flip_statistics(flips, fooled & False).median_of_successes)
