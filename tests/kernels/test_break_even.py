"""The share of spikes below which events are faster: measured once, and kept on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from robust_snn.kernels import measurements
from robust_snn.kernels.convolution import break_even as module
from robust_snn.kernels.convolution.break_even import FEW, MANY, break_even
from robust_snn.kernels.measurements import cache_file

SPIKES, WEIGHT = torch.zeros(6, 16, 5, 5), torch.ones(64, 16, 3, 3)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[float]]:
    """What measurements find, one after the other, in a cache folder that is empty at first."""
    found: list[list[float]] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measurements, "_known", {})
    monkeypatch.setattr(module, "least_seconds", lambda work: found.pop(0))
    return found


@pytest.mark.parametrize(
    "few, many, dense, share",
    [
        (1.0, 6.0, [5.0, 4.0], 0.18),  # 10 % less than the faster dense one, on the line
        (1.0, 2.0, [9.0, 9.0], MANY),  # no more than was measured
        (4.0, 6.0, [4.0, 9.0], 0.0),
        (5.0, 4.0, [4.0, 4.0], 0.0),  # busier is faster: noise, and no reason to choose events
    ],
)
def test_events_must_win_clearly(times, few, many, dense, share):
    times.append([few, many, *dense])
    assert break_even(SPIKES, WEIGHT, 1, 1) == pytest.approx(share, abs=1e-3)
    assert FEW < MANY


def test_a_machine_measures_once(times, monkeypatch):
    times += [[1.0, 6.0, 5.0, 4.0], [1.0, 2.0, 9.0, 9.0]]
    first = break_even(SPIKES, WEIGHT, 1, 1)
    assert break_even(SPIKES[:5], WEIGHT, 1, 1) == first  # six and five images are eight
    monkeypatch.setattr(measurements, "_known", {})  # another process
    assert break_even(SPIKES, WEIGHT, 1, 1) == first
    assert len(times) == 1
    assert break_even(SPIKES, WEIGHT, 2, 1) == MANY
    assert sorted(module.measured_here().values()) == sorted([first, MANY])
    (machine,) = json.loads(cache_file().read_text())
    assert f"threads {torch.get_num_threads()}" in machine


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"a": 1}', '{"a": {"b": "c"}}', '{"a": {"b": 7}}']
)
def test_a_damaged_file_is_measured_anew(times, content):
    cache_file().parent.mkdir()
    cache_file().write_text(content)
    times.append([1.0, 2.0, 9.0, 9.0])
    assert break_even(SPIKES, WEIGHT, 1, 1) == MANY


def test_a_folder_that_takes_no_file_costs_nothing(times, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    times.append([1.0, 2.0, 9.0, 9.0])
    assert break_even(SPIKES, WEIGHT, 1, 1) == MANY


def test_it_measures_what_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measurements, "_known", {})
    state = torch.random.get_rng_state()
    for dtype in (torch.float32, torch.bfloat16):
        assert 0 <= break_even(SPIKES.to(dtype), WEIGHT.to(dtype), 1, 1) <= MANY
    assert torch.equal(torch.random.get_rng_state(), state)
