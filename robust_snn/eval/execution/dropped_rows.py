"""Rows of an adaptive suite that found nothing on the first shards do not run on the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.shard_result import FinishedShard, WorstCase
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.suite import AttackSpec

SCOUTS = 2  # shards on which every row runs
LEAST = 8  # images that a row must have met before it can be judged
FOUND = 0.01  # of the accuracy of the images that it met, which a row must have taken to stay


def scouts(job: Job) -> int:
    """Number of the first shards that decide for the others; 0 if every row runs on all."""
    adaptive = job.suite.budget is not None and not job.suite.independent
    return SCOUTS if adaptive and job.shards > SCOUTS else 0


def dropped_rows(job: Job, scouted: Iterable[FinishedShard]) -> dict[int, int]:
    """The rows that found nothing, and how many images each met.

    The first row stays, and so do those that search the last survivors for what others miss: with
    several starts, or without a gradient.

    Args:
        job: What is done.
        scouted: The first shards, as many as `scouts` says.
    """
    met, taken = dict.fromkeys(range(len(job.suite.attacks)), 0), dict[int, float]()
    for shard in scouted:
        worst = WorstCase(shard.clean)
        for row, result in enumerate(shard.attacks):
            if result is not None:
                before = float(worst.select.sum())
                worst.update(result, row)
                met[row] += len(result.positions)
                taken[row] = taken.get(row, 0.0) + before - float(worst.select.sum())
    return {
        row: met[row]
        for row, spec in enumerate(job.suite.attacks)
        if row and not _is_last_resort(spec)
        if met[row] >= LEAST and taken[row] < FOUND * met[row]
    }


def dropped_by_name(job: Job, shards: Sequence[FinishedShard]) -> dict[str, int]:
    """The rows that were dropped, by name, and how many images each met before; of all shards."""
    names = [row.name for row in job.suite.attacks]
    return {names[row]: met for row, met in dropped_rows(job, shards[: scouts(job)]).items()}


def _is_last_resort(row: AttackSpec) -> bool:
    return (row.restarts or 1) > 1 or implementation(row).blind(row)
