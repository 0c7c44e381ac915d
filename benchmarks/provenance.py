"""Where a measurement comes from: written into every row of a result."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch


def provenance() -> dict[str, Any]:
    """Commit, versions, processor, threads and how busy the machine is."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def write_rows(path: str, rows: list[dict[str, Any]]) -> None:
    """Writes a CSV file, the provenance in the last columns."""
    source = provenance()
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *source])
        writer.writeheader()
        writer.writerows({**row, **source} for row in rows)
