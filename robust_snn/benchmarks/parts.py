"""Runs parts of the benchmark, and writes each as a table with a picture."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from robust_snn.benchmarks.attack_step_speed import (
    measure_attack_memory,
    measure_attack_steps,
    measure_eot,
    measure_scaling,
)
from robust_snn.benchmarks.convolution_speed import measure_convolutions
from robust_snn.benchmarks.foreign_step_speed import measure_foreign_steps
from robust_snn.benchmarks.fresh_process import measure_first_call
from robust_snn.benchmarks.host_speed import host_speed
from robust_snn.benchmarks.layer_speed import measure_layers
from robust_snn.benchmarks.sparse_choice_speed import measure_sparse_choices
from robust_snn.benchmarks.timing import Record
from robust_snn.benchmarks.training_step_speed import measure_training
from robust_snn.utils.errors import unknown
from robust_snn.utils.figures import new_figure, save_figure
from robust_snn.utils.machine import gpu_driver, processor
from robust_snn.utils.user_files import output_folder


def _first_call(rounds: int, clock: str) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        return measure_first_call(folder)


def _static(rounds: int, clock: str) -> list[Record]:
    from robust_snn.benchmarks.triton_compile_report import CASES, GPUS, compile_report

    return [
        asdict(compile_report(kernel, case, gpu, steps, dtype, layout))
        for case in CASES
        for kernel in ("forward", "backward")
        for gpu in GPUS
        for steps in (8, 16)
        for dtype in ("float32", "bfloat16", "float16")
        for layout in ("first", "last")
    ]


# A part's function, and the rounds that it takes unless told otherwise.
PARTS: dict[str, tuple[Callable[[int, str], list[Record]], int]] = {
    "layers": (measure_layers, 15),
    "convolutions": (measure_convolutions, 15),
    "sparse_choice": (measure_sparse_choices, 15),
    "steps": (measure_attack_steps, 7),
    "eot": (measure_eot, 3),
    "scaling": (measure_scaling, 3),
    "memory": (lambda rounds, clock: measure_attack_memory(), 1),
    "foreign": (measure_foreign_steps, 9),
    "training": (measure_training, 5),
    "first_call": (_first_call, 1),
    "static": (_static, 1),
}


def run_part(part: str, out: Path, rounds: int | None = None, clock: str = "wall") -> list[Record]:
    """Measures one part and writes `out/PART.csv` and, where times were taken, `out/PART.png`.

    Raises:
        InputError: If the part is not known.
    """
    if part not in PARTS:
        raise unknown("part of the benchmark", part, PARTS)
    measure, usual = PARTS[part]
    table = measure(rounds or usual, clock)
    _write(part, table, out, {**_provenance(), **host_speed(), "clock": clock})
    if "candidate" in table[0]:
        _plot(part, table, out / f"{part}.png")
    return table


def run_device_part(
    part: str, out: Path, device: torch.device, rounds: int | None = None
) -> list[Record]:
    """The same on a GPU; the table is written anew whenever some of its rows are measured.

    Raises:
        InputError: If the part is not known.
    """
    from robust_snn.benchmarks.cuda.device_parts import DEVICE_PARTS

    if part not in DEVICE_PARTS:
        raise unknown("part of the benchmark on a GPU", part, DEVICE_PARTS)
    measure, usual, _ = DEVICE_PARTS[part]
    source = {**_provenance(), **_card(device), "clock": "device events"}
    table: list[Record] = []
    for rows in measure(device, rounds or usual):
        table += rows
        _write(part, table, out, source)
    if "candidate" in table[0]:
        _plot(part, table, out / f"{part}.png")
    return table


def _write(part: str, table: list[Record], out: Path, source: dict[str, Any]) -> None:
    output_folder(out, "the tables")
    columns = dict.fromkeys(name for row in table for name in row)
    with open(out / f"{part}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*columns, *source])))
        writer.writeheader()
        writer.writerows({**source, **row} for row in table)


def _provenance() -> dict[str, Any]:
    """Commit, versions, processor, threads and how busy the machine is."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        **{name: _version(name) for name in ("torch", "numba", "spikingjelly", "snntorch")},
        "python": platform.python_version(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }


def _card(device: torch.device) -> dict[str, Any]:
    """The name of the GPU, and the versions of what runs on it."""
    if device.type != "cuda":
        return {}
    return {
        "card": torch.cuda.get_device_name(device),
        "driver": gpu_driver(),
        "cuda": torch.version.cuda or torch.version.hip,
        "triton": _version("triton"),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _plot(part: str, table: list[Record], path: Path) -> None:
    """One panel per size: lines over a size that grows, else a bar per candidate."""
    value = "ms" if "ms" in table[0] else "MiB"
    table = [row for row in table if row[value] != "" and row.get("pass", "both") == "both"]
    keys = _panel_keys(table)
    panels: dict[str, list[Record]] = {}
    for row in table:
        title = ", ".join(f"{k}={row[k]}" if k in ("B", "threads") else str(row[k]) for k in keys)
        panels.setdefault(title or part, []).append(row)
    names = list(dict.fromkeys(row["candidate"] for row in table))
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    figure = new_figure(5.2 * columns, 4.2 * lines, "bench")
    places = figure.subplots(lines, columns, squeeze=False).flat
    for (panel, mine), axes in zip(panels.items(), places, strict=False):
        along = next((k for k in ("value", "density") if k in mine[0]), None)
        for name in names:
            own = [row for row in mine if row["candidate"] == name]
            if along:
                axes.plot([r[along] for r in own], [r[value] for r in own], "o-", label=name)
            elif own:
                axes.barh(name, own[0][value])
        if along:
            axes.set(xlabel=along if along == "density" else panel, ylabel=value, ylim=(0, None))
            axes.legend()
        else:
            axes.invert_yaxis()
            axes.set(xlabel=value)
        axes.set_title(panel)
        axes.grid(alpha=0.3)
    for axes in places:  # what the last line has left over
        axes.remove()
    save_figure(figure, path, dpi=120)


def _panel_keys(table: list[Record]) -> list[str]:
    """The columns whose values tell panels apart."""
    if "axis" in table[0]:
        return ["axis"]
    keys = ("shape", "format", "precision", "threads", "B")
    return [key for key in keys if len({row.get(key) for row in table}) > 1]
