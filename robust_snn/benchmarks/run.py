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

from robust_snn.benchmarks import convolutions, layers, steps, training
from robust_snn.benchmarks.timing import Row
from robust_snn.utils.errors import unknown
from robust_snn.utils.figures import new_figure


def _first_call(rounds: int, clock: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return steps.measure_first_call(folder)


def _static(rounds: int, clock: str) -> list[Row]:
    from robust_snn.benchmarks.triton_compile_report import CASES, TARGETS, report

    return [
        asdict(report(kernel, case, target, count))
        for case in CASES
        for kernel in ("forward", "backward")
        for target in TARGETS
        for count in (4, 8, 16)
    ]


# A part's function, and the rounds that it takes unless told otherwise.
PARTS: dict[str, tuple[Callable[[int, str], list[Row]], int]] = {
    "layers": (layers.measure, 15),
    "convolutions": (convolutions.measure, 15),
    "steps": (steps.measure, 7),
    "eot": (steps.measure_eot, 3),
    "scaling": (steps.measure_scaling, 3),
    "memory": (lambda rounds, clock: steps.measure_memory(), 1),
    "training": (training.measure, 5),
    "first_call": (_first_call, 1),
    "static": (_static, 1),
}


def run(part: str, out: Path, rounds: int | None = None, clock: str = "wall") -> list[Row]:
    """Measures one part and writes `out/PART.csv` and, where times were taken, `out/PART.png`.

    Raises:
        InputError: If the part is not known.
    """
    if part not in PARTS:
        raise unknown("part of the benchmark", part, PARTS)
    measure, usual = PARTS[part]
    found = measure(rounds or usual, clock)
    out.mkdir(parents=True, exist_ok=True)
    source = {**_provenance(), "clock": clock}
    with open(out / f"{part}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [*found[0], *source])
        writer.writeheader()
        writer.writerows({**row, **source} for row in found)
    if "candidate" in found[0]:
        _plot(part, found, out / f"{part}.png")
    return found


def _provenance() -> dict[str, Any]:
    """Commit, versions, processor, threads and how busy the machine is."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        **{name: _version(name) for name in ("torch", "numba", "spikingjelly", "snntorch")},
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def _plot(part: str, found: list[Row], path: Path) -> None:
    """One panel per size: lines over a size that grows, else a bar per candidate."""
    value = "ms" if "ms" in found[0] else "MiB"
    found = [row for row in found if row[value] != ""]
    key = next((k for k in ("axis", "shape") if k in found[0]), None)
    panels = list(dict.fromkeys(row[key] for row in found)) if key else [part]
    names = list(dict.fromkeys(row["candidate"] for row in found))
    figure = new_figure(5.2 * len(panels), 4.2, "bench")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        mine = [row for row in found if key is None or row[key] == panel]
        along = next((k for k in ("value", "density") if k in mine[0]), None)
        for name in names:
            own = [row for row in mine if row["candidate"] == name]
            if along:
                axes.plot([r[along] for r in own], [r[value] for r in own], "o-", label=name)
            else:
                axes.barh(name, own[0][value])
        if along:
            axes.set(xlabel=along if along == "density" else panel, ylabel=value, ylim=(0, None))
            axes.legend()
        else:
            axes.invert_yaxis()
            axes.set(xlabel=value)
        axes.set_title(panel if key else part)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
