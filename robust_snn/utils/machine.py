"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def processor() -> str:
    """The model name of the processor, as Linux calls it, else as Python does."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def caches() -> str:
    """Sizes of the first processor's caches for data, as Linux gives them, or nothing."""
    found = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (cache / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found)


def share_of_processors(wall: float, computing: float, threads: int) -> float:
    """The share of a time in which a process had the processors that it wanted, in (0, 1].

    Args:
        wall: Seconds that passed.
        computing: Seconds of computing in them, of all threads.
        threads: Threads that computed. Several also wait for each other: then others are at work
            only where more programs want processors than there are.
    """
    share = computing / (wall * threads)
    if threads > 1:
        count = os.cpu_count() or 1
        share = max(share, count / max(os.getloadavg()[0], count))
    return min(1.0, share)


def gpu_driver() -> str:
    """Version of the driver of NVIDIA's GPUs, as their own tool gives it."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
