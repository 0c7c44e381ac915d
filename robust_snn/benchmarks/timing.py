"""Interleaved timing: every round runs each candidate once, so that a busy moment hits them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
Times: TypeAlias = dict[str, list[float]]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleave(
    candidates: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> Times:
    """Milliseconds of each candidate in each round; one round before does not count."""
    times: Times = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            start = clock()
            candidate()
            if number:
                times[name].append((clock() - start) * 1e3)
    return times


def median(times: list[float]) -> float:
    return round(statistics.median(times), 3)


def ratio(base: list[float], times: list[float]) -> Record:
    """How many times faster than `base` in the same rounds: the median and the range."""
    ratios = sorted(b / t for b, t in zip(base, times, strict=True))
    middle = statistics.median(ratios)
    return {"ratio": round(middle, 2), "low": round(ratios[0], 2), "high": round(ratios[-1], 2)}


def records(
    shape: Record, times: Times, base: str, refused: dict[str, str] | None = None
) -> list[Record]:
    """A record per candidate, with its ratio to the base; a refused one has no numbers."""
    none = dict.fromkeys(("ratio", "low", "high"), "")
    found: list[Record] = []
    for name, t in times.items():
        compared = ratio(times[base], t) if base in times else none
        found.append({**shape, "candidate": name, "ms": median(t), **compared, "refused": ""})
    for name, why in (refused or {}).items():
        found.append({**shape, "candidate": name, "ms": "", **none, "refused": why})
    return found
