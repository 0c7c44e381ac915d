"""How far a run is, how long it will take, and what is known so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from robust_snn.eval.execution.job import Job, row_and_shard
from robust_snn.eval.execution.row_passes import is_blind, row_passes
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.utils.share_texts import percent

LOOK_EVERY = 1.0  # seconds between two looks at what other processes have done, at least
LOOKING = 0.005  # share of the time that looks may take, which list every result of the run


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Finished share of the planned work, in [0, 1].
        seconds: Time since this process began.
        remaining: Expected time that is left; None before anything is finished.
        doing: What runs now.
        robust: Robust accuracy on the select draws over the shards that this process has finished
            or found finished; None before one is.
    """

    done: float
    seconds: float
    remaining: float | None
    doing: str
    robust: float | None

    @classmethod
    def starting(cls, doing: str) -> Progress:
        """Before anything is planned."""
        return cls(0.0, 0.0, None, doing, None)

    @property
    def known(self) -> str:
        """What is known so far, or nothing."""
        return "" if self.robust is None else f"robust so far {percent(self.robust)}"


class Meter:
    """Reports `Progress` while results are finished, here or by other processes.

    Args:
        job: What to do.
        folder: The folder of the run.
        listener: Called with every report.
    """

    def __init__(self, job: Job, folder: RunFolder, listener: Callable[[Progress], None]) -> None:
        self.job = job
        self.folder = folder
        self.listener = listener
        rows = (None, *job.suite.attacks)
        self.passes = np.array([_passes(job, row) for row in rows], float)
        self.left = {name for shard in range(job.shards) for name in job.names(shard)}
        self.waiting = np.full(len(rows), float(len(job.images)))  # images that a row may yet meet
        self.total = float(self.waiting @ self.passes)
        self.finished = self.here = 0.0
        self.met = np.zeros((len(rows), 2))  # images that rows have met, and could have
        started = time.perf_counter()
        self._look(computed=False)
        self.began = time.perf_counter()
        self.look_at = self.began + max(LOOK_EVERY, (self.began - started) / LOOKING)
        self.right: dict[int, np.ndarray] = {}

    def longest_first(self, shards: Iterable[int]) -> list[int]:
        """Shards by the work that was left of them when this began; those begun come last."""

        def left(shard: int) -> float:
            names = self.job.names(shard)
            waits = (
                passes for name, passes in zip(names, self.passes, strict=True) if name in self.left
            )
            return float(sum(waits)) * len(self.job.ids(shard))

        return sorted(shards, key=left, reverse=True)

    def begin(self, row: int, shard: int, met: int) -> None:
        """Reports what begins now.

        Args:
            row: Number of the attack, from 1; 0 for the clean images.
            shard: Number of the shard.
            met: Images of the shard that the rows before have left.
        """
        self.met[row] += met, len(self.job.ids(shard))
        name = self.job.suite.attacks[row - 1].name if row else "clean images"
        self._report(f"{name}, shard {shard + 1} of {self.job.shards}")

    def say(self, doing: str) -> None:
        """Reports what begins now, other than an attack; nobody can tell how long it takes."""
        self._report(doing, timed=False)

    def wait(self) -> None:
        """Reports that other processes are at work on all that is left."""
        self._report("waiting for other processes")

    def skip(self, row: int, shard: int) -> None:
        """Counts a result that is not needed."""
        self.met[row] += 0, len(self.job.ids(shard))
        self.count(row, shard, 0, computed=False)

    def count(self, row: int, shard: int, met: int | None = None, *, computed: bool) -> None:
        """Counts a finished result.

        Args:
            row: As for `begin`.
            shard: As for `begin`.
            met: As for `begin`; None where only others know.
            computed: Whether it was computed during this run, and so tells its speed.
        """
        images, name = len(self.job.ids(shard)), self.job.names(shard)[row]
        if name in self.left:
            self.left.remove(name)
            self.waiting[row] -= images
            self.finished += images * self.passes[row]
            scored = images * self._shares()[row] if met is None else met
            self.here += computed * scored * self.passes[row]

    def _look(self, *, computed: bool) -> None:
        """Counts what lies in the folder."""
        for name in self.folder.finished() & self.left:
            self.count(*row_and_shard(name), computed=computed)

    def count_images(self, shard: int, select: np.ndarray) -> None:
        """Counts the images of a finished shard, once, by their worst accuracies, `[n]`."""
        self.right[shard] = select

    def _report(self, doing: str, *, timed: bool = True) -> None:
        now = time.perf_counter()
        if now > self.look_at:
            self._look(computed=True)  # by others
            took = time.perf_counter() - now
            self.look_at = now + max(LOOK_EVERY, took / LOOKING)
        seconds, left = now - self.began, float(self.waiting @ (self.passes * self._shares()))
        known = [*self.right.values()]
        self.listener(
            Progress(
                done=self.finished / self.total,
                seconds=seconds,
                remaining=seconds * left / self.here if self.here and timed else None,
                doing=doing,
                robust=float(np.concatenate(known).mean()) if known else None,
            )
        )

    def _shares(self) -> list[float]:
        """The share of the images that every row meets, as far as is known from the shards that it
        has met; of the others it is that of the row before."""
        shares = [1.0]
        for met, images in self.met[1:]:
            shares.append(met / images if images else shares[-1])
        return shares


def _passes(job: Job, attack: AttackSpec | None) -> float:
    """Rough number of passes per image; a step with a gradient counts three forward passes."""
    scoring = job.suite.draws.select + job.suite.draws.report
    if attack is None:
        return scoring
    return row_passes(attack) * (1 if is_blind(attack) else 3) + scoring
