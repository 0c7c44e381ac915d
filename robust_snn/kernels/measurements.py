"""What was measured on this machine, kept in the user's cache folder for later processes.

Measurements belong to a processor, a number of threads and versions of code.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.machine import processor

ROUNDS, SECONDS = 7, 0.5  # of the timing, at most
_known: dict[Hashable, float] = {}
_measuring = Lock()


def once(asked: Hashable, find: Callable[[], float]) -> float:
    """What a process finds for a question, by one thread at a time: others would disturb a timing.

    Args:
        asked: The question.
        find: Measures the answer, or reads it.
    """
    if asked not in _known:
        with _measuring:
            if asked not in _known:
                _known[asked] = find()
    return _known[asked]


def kept(kind: str, measure: Callable[[], float], most: float) -> float:
    """What was measured of a kind of work, by whichever process came first.

    Args:
        kind: What it is called in the file.
        measure: Measures it.
        most: The largest number that can come out; another one is damage.
    """
    here, found = _here(), _read()
    value = found.setdefault(here, {}).get(kind)
    if value is None or not 0 <= value <= most:
        value = found[here][kind] = measure()
        _write(found)
    return float(value)


def cache_file() -> Path:
    """Where measurements are kept: `robust_snn/measurements.json` in the user's cache folder."""
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA")
    else:
        folder = os.environ.get("XDG_CACHE_HOME")
    return Path(folder or Path.home() / ".cache") / "robust_snn" / "measurements.json"


def measured_here(prefix: str) -> dict[str, float]:
    """What was measured with as many threads and these versions, of kinds that begin so."""
    return {k: v for k, v in _read().get(_here(), {}).items() if k.startswith(prefix)}


def least_seconds(
    work: list[Callable[[], object]], before: Callable[[], object] = lambda: None
) -> list[float]:
    """The least time of each call, over interleaved rounds.

    Args:
        work: What is timed, after a first call that compiles.
        before: Precedes every call, untimed.
    """
    least, begin = [float("inf")] * len(work), time.perf_counter()
    for number in range(-1, ROUNDS):
        if number > 0 and time.perf_counter() - begin > SECONDS:
            break
        for place, run in enumerate(work):
            before()
            start = time.perf_counter()
            run()
            if number >= 0:
                least[place] = min(least[place], time.perf_counter() - start)
        if number < 0:
            begin = time.perf_counter()
    return least


def _here() -> str:
    return f"{_machine()}, threads {torch.get_num_threads()}"


@lru_cache
def _machine() -> str:
    import numba

    from robust_snn.kernels.numba_tools.compile import SOURCES

    versions = f"torch {torch.__version__}, numba {numba.__version__}, kernels {SOURCES:08x}"
    return f"{processor()}, {versions}"


def _read() -> dict[str, dict[str, float]]:
    """What was measured before; a file that is missing or damaged holds nothing."""
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # no home folder is a RuntimeError
        return {}
    return found if _is_sound(found) else {}


def _is_sound(found: Any) -> bool:
    """Whether what was read are numbers by machine and kind."""
    tables = list(found.values()) if isinstance(found, dict) else [None]
    values = [v for table in tables for v in (table.values() if isinstance(table, dict) else "x")]
    return all(isinstance(value, int | float) for value in values)


def _write(found: dict[str, dict[str, float]]) -> None:
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(), found)
    except (OSError, RuntimeError):
        pass  # each process measures for itself
