"""How much of a run is left: what is expected of rows that meet what those before have left."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.eval.execution.job import piece_name
from robust_snn.eval.execution.progress import Meter, Progress

ROWS = tuple(AttackSpec(f"a{i}", "robust_snn", "pgd", steps=9) for i in range(3))
SECONDS = 0.5  # of a clean pass of all draws; a row of nine steps takes eleven such
SCORED, ROW = 10, 10 + 3 * 10  # passes of the draws, and with those of a row


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def meter(seen: list[Progress], finished: set[str], shards: int = 4) -> Meter:
    def names(shard: int) -> list[str]:
        rows = enumerate((row.name for row in ROWS), 1)
        return [f"clean/{shard:05d}", *(piece_name(i, name, shard) for i, name in rows)]

    job: Any = SimpleNamespace(
        suite=Suite("s", ROWS, draws=Draws(4, 6)),
        shards=shards,
        images=np.zeros(10 * shards),
        ids=lambda shard: np.arange(10),
        names=names,
    )
    folder: Any = SimpleNamespace(finished=lambda: set(finished))
    return Meter(job, folder, seen.append)


def run_shard(of: Meter, clock: Clock, shard: int, left: tuple[int, ...]) -> None:
    """Rows take a second per pass of an image, of which so many meet them."""
    for row, met in enumerate((10, *left)):
        if not met:
            of.skip(row, shard)
            continue
        of.begin(row, shard, met)
        clock.now += met * (ROW if row else SCORED)
        of.count(row, shard, met, computed=True)


@pytest.mark.parametrize("left", [(10, 10, 10), (10, 3, 0), (8, 1, 1), (0, 0, 0)])
def test_the_time_left_is_that_of_alike_shards(
    left: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    clock = Clock(monkeypatch)
    of = meter(seen, set())
    run_shard(of, clock, 0, left)
    whole = clock.now
    run_shard(of, clock, 1, left)
    told = [now for now in seen if now.doing == "clean images, shard 2 of 4"]
    assert told[0].remaining == pytest.approx(3 * whole)
    rows = [now.remaining for now in seen if "shard 2" in now.doing]
    assert rows == sorted(rows, reverse=True)  # type: ignore[type-var]


def test_what_others_have_done_tells_the_speed_and_what_was_there_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Progress] = []
    clock, there = Clock(monkeypatch), {"clean/00003", *(f"0{i}-a{i - 1}/00003" for i in (1, 2, 3))}
    of = meter(seen, there)
    run_shard(of, clock, 0, (10, 10, 10))
    there |= {name.replace("00003", "00002") for name in there}  # by another, in the same time
    run_shard(of, clock, 1, (10, 10, 10))
    told = next(now for now in seen if now.doing == "clean images, shard 2 of 4")
    assert told.done == pytest.approx(3 / 4) and told.remaining == pytest.approx(clock.now / 4)
