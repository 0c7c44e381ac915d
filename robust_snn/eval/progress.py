"""How far a run is, how long it will take, and what is known so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robust_snn.eval.job import Job
from robust_snn.eval.suite import Attack

STEPS = 100  # what AutoAttack takes where a row does not say


@dataclass(frozen=True)
class Progress:
    """A moment of a run.

    Attributes:
        done: Finished share of the planned work, in [0, 1].
        seconds: Time since this process began.
        remaining: Expected time that is left; None before anything is finished.
        doing: What runs now.
        robust: Robust accuracy on the select draws over the finished shards; None before one is.
    """

    done: float
    seconds: float
    remaining: float | None
    doing: str
    robust: float | None

    @property
    def found(self) -> str:
        """What is known so far, or nothing."""
        return "" if self.robust is None else f"robust so far {self.robust:.1%}"


class Meter:
    """Turns finished pieces into `Progress` reports."""

    def __init__(self, job: Job, listener: Callable[[Progress], None]) -> None:
        self.listener = listener
        self.job = job
        self.total = float(sum(self._work(shard) for shard in range(job.shards)))
        self.finished = self.here = 0.0
        self.began = time.perf_counter()
        self.images = 0
        self.right = 0.0

    def begin(self, attack: Attack | None, shard: int) -> None:
        """Reports what begins now; None is the clean images."""
        name = "clean images" if attack is None else attack.name
        seconds = time.perf_counter() - self.began
        left = self.total - self.finished
        self.listener(
            Progress(
                done=self.finished / self.total,
                seconds=seconds,
                remaining=seconds * left / self.here if self.here else None,
                doing=f"{name}, shard {shard + 1} of {self.job.shards}",
                robust=self.right / self.images if self.images else None,
            )
        )

    def finish(self, attack: Attack | None, shard: int, *, computed: bool) -> None:
        """Counts a piece; one that was found in the folder says nothing about speed."""
        work = len(self.job.ids(shard)) * _passes(self.job, attack)
        self.finished += work
        self.here += work * computed

    def close(self, select: np.ndarray) -> None:
        """Counts a finished shard by its images' worst accuracies."""
        self.images += len(select)
        self.right += float(select.sum())

    def _work(self, shard: int) -> float:
        rows = (None, *self.job.suite.attacks)
        return len(self.job.ids(shard)) * sum(_passes(self.job, row) for row in rows)


def _passes(job: Job, attack: Attack | None) -> float:
    """Rough number of passes per image; a step with a gradient counts three forward passes."""
    scoring = job.suite.draws.select + job.suite.draws.report
    if attack is None:
        return scoring
    per_step = 1 if attack.attack.lower() == "square" else 3
    targets = 9 if attack.attack.endswith("-t") else 1
    steps = (attack.steps or STEPS) * (attack.restarts or 1) * targets
    return steps * attack.eot * per_step + scoring
