"""The parts of the benchmark on a GPU, and the rows of each that a short table shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from robust_snn.benchmarks.cuda.attack_steps import (
    measure_compiled_step,
    measure_eot_on,
    measure_memory_on,
    measure_scaling_on,
    measure_steps_on,
)
from robust_snn.benchmarks.cuda.kernel_launches import measure_kernels_on
from robust_snn.benchmarks.cuda.spiking_layers import (
    BATCHES,
    measure_compiled_layer,
    measure_layers_on,
)
from robust_snn.benchmarks.cuda.training_steps import measure_training_on
from robust_snn.benchmarks.timing import Record

Rows = Iterator[list[Record]]


class DevicePart(NamedTuple):
    """What a part measures, in how many rounds at most, and whether a short table shows a row."""

    measure: Callable[[torch.device, int], Rows]
    rounds: int
    shows: Callable[[Record], Any] = bool


def _compiled(device: torch.device, rounds: int) -> Rows:
    yield measure_compiled_layer(device, rounds)
    yield measure_compiled_step(device, rounds)


def _memory(device: torch.device, rounds: int) -> Rows:
    return measure_memory_on(device)


def _is_telling(row: Record) -> bool:
    return row["pass"] == "both" or row["candidate"] == "ours bptt"


DEVICE_PARTS = {
    "layers": DevicePart(
        measure_layers_on,
        15,
        lambda row: row["B"] == BATCHES[-1] and _is_telling(row),
    ),
    "steps": DevicePart(measure_steps_on, 10),
    "eot": DevicePart(measure_eot_on, 5),
    "scaling": DevicePart(measure_scaling_on, 5),
    "memory": DevicePart(_memory, 1),
    "training": DevicePart(measure_training_on, 5),
    "kernels": DevicePart(measure_kernels_on, 8, lambda row: row["best"]),
    "compiled": DevicePart(_compiled, 10),
}


def short_table(part: str, rows: list[Record]) -> str:
    """The rows that matter as aligned text, without columns that say the same in every row."""
    shown = [row for row in rows if DEVICE_PARTS[part].shows(row)]
    columns = [
        name
        for name in dict.fromkeys(key for row in shown for key in row)
        if name not in ("low", "high") and len({row.get(name, "") for row in shown}) > 1
    ]
    lines = [columns, *([str(row.get(name, "")) for name in columns] for row in shown)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    aligned = (
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([part, *aligned])
