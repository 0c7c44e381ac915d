"""The benchmark of GPUs: the same code on a CPU, small, and what it makes of failures."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn import InputError
from robust_snn.benchmarks import layer_speed, run_device_part
from robust_snn.benchmarks.cuda import (
    attack_steps,
    device_events,
    device_parts,
    kernel_launches,
    spiking_layers,
    training_steps,
)
from robust_snn.cli import main

CPU = torch.device("cpu")
SMALL = {"width": 0.125, "steps": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes for a CPU."""
    monkeypatch.setattr(layer_speed, "LAYER_SHAPES", {"8x4x4": (8, 4, 4)})
    monkeypatch.setattr(spiking_layers, "LAYER_SHAPES", {"8x4x4": (8, 4, 4)})
    # bf16 convolutions of few channels are slow on CPUs, by a factor of a hundred
    few = {name: device_events.PRECISIONS[name] for name in ("float32", "TF32")}
    monkeypatch.setattr(attack_steps, "PRECISIONS", few)
    for module in (spiking_layers, attack_steps, kernel_launches):
        monkeypatch.setattr(
            module, "copy_speed", lambda device: device_events.copy_speed(device, 1)
        )


def rows_of(part: Iterator[list[Any]]) -> list[dict[str, Any]]:
    return list(itertools.chain.from_iterable(part))


def test_a_candidate_that_fails_costs_itself() -> None:
    def fails() -> None:
        raise torch.OutOfMemoryError("no room\nfor this")

    times, failed = device_events.interleave_on(CPU, {"a": lambda: None, "b": fails}, 5)
    assert failed == {"b": "OutOfMemoryError: no room"}
    assert len(times["a"]) == 5
    times, _ = device_events.interleave_on(CPU, {"a": lambda: None}, 50, seconds=0.0)
    assert len(times["a"]) == device_events.FEWEST


def test_layers_are_checked_and_compared_pass_by_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {
        "plain loop": layer_speed.plain_loop,
        "ours bptt": layer_speed._ours(),
        "snntorch": lambda x: 1 - layer_speed.plain_loop(x),
    }
    monkeypatch.setattr(spiking_layers, "candidate_layers", lambda: layers)
    rows = rows_of(spiking_layers.measure_layers_on(CPU, 3, steps=4, batches=(2,)))
    assert {row["format"] for row in rows} == set(spiking_layers.FORMATS)
    for row in rows:
        assert bool(row["refused"]) == (row["candidate"] == "snntorch")
        assert bool(row["refused"]) == (row["of_copy"] == "")
    ours = [row["pass"] for row in rows if row["candidate"] == "ours bptt"]
    assert ours == [*spiking_layers.PASSES] * 2


def test_steps_are_multiples_of_their_convolutions() -> None:
    rows = rows_of(attack_steps.measure_steps_on(CPU, 1, batches=(2,), **SMALL))
    for precision in attack_steps.PRECISIONS:
        mine = {row["candidate"]: row for row in rows if row["precision"] == precision}
        assert mine["convolutions"]["of_convolutions"] == 1.0
        assert mine["bptt"]["of_convolutions"] > 1
        assert mine["published, autograd.grad"]["ratio"] == 1.0


def test_every_other_part_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_steps, "NETWORKS", ("snn_wrn16",))
    monkeypatch.setattr(training_steps, "CASES", {"float32": ("plain loop", "ours")})
    monkeypatch.setattr(kernel_launches, "STEPS", (2,))
    parts = {
        "eot": attack_steps.measure_eot_on(CPU, 1, batches=(1,), **SMALL),
        "scaling": attack_steps.measure_scaling_on(CPU, 1, {"width": (0.05,)}),
        "memory": attack_steps.measure_memory_on(CPU, batch=1, **SMALL),
        "training": training_steps.measure_training_on(CPU, 1, batch=2, **SMALL),
        "kernels": kernel_launches.measure_kernels_on(CPU, 1, 2, ((8, 4, 4),)),
    }
    for name, part in parts.items():
        rows = rows_of(part)
        assert rows, name
        refused = [row["candidate"] for row in rows if row.get("refused")]
        assert refused == [case for case in refused if "graph" in case], name  # needs a GPU
        assert name in device_parts.short_table(name, rows)


def test_what_was_measured_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(device: torch.device, rounds: int) -> Iterator[list[dict[str, Any]]]:
        yield [{"candidate": "a", "ms": 1.0}]
        yield [{"candidate": "b", "ms": 2.0, "more": "x"}]
        raise RuntimeError("the card is gone")

    monkeypatch.setitem(device_parts.DEVICE_PARTS, "eot", device_parts.DevicePart(stops, 1))
    with pytest.raises(RuntimeError, match="gone"):
        run_device_part("eot", tmp_path, CPU)
    with open(tmp_path / "eot.csv") as file:
        table = list(csv.DictReader(file))
    assert [(row["candidate"], row["more"]) for row in table] == [("a", ""), ("b", "x")]
    assert table[0]["clock"] == "device events"
    with pytest.raises(InputError, match="did you mean 'layers'"):
        run_device_part("layer", tmp_path, CPU)


def test_a_short_table_leaves_out_what_is_always_the_same() -> None:
    rows = [{"T": 8, "candidate": name, "ms": 1.0, "low": 1, "high": 2} for name in ("a", "bb")]
    assert device_parts.short_table("eot", rows) == "eot\ncandidate\na\nbb"


def test_a_gpu_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        main(["benchmark", "layers", "--device", "cuda"])
    assert "sees no CUDA device" in capsys.readouterr().err
