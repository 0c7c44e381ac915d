"""One shard from start to end: locking it, attacking it, and taking what is already there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from robust_snn.data.lazy_images import LazyImages, UnreadableImage
from robust_snn.eval.execution.dropped_rows import dropped_rows, scouts
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.kept_versions import KeptVersions
from robust_snn.eval.execution.progress import Meter
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import FinishedShard, ShardResult, WorstCase
from robust_snn.utils.folder_lock import SAY_AFTER, say_locked

NEARLY_BROKEN = 0.03  # share of the select draws that are right
_log = logging.getLogger("robust_snn")
PATIENCE = 0.5  # seconds between two looks at a shard that another process has locked


def locked_shards(
    shards: Iterable[int], folder: RunFolder, idle: Callable[[], None]
) -> Generator[int]:
    """Shards that this process has locked, one after the other; all of them in the end.

    First come those that no other process has locked, then the others, once they are free. Those
    are finished, unless their process died, and only need to be read. A shard is unlocked when the
    next one is asked for.

    Args:
        shards: Numbers of the shards.
        folder: The folder of the run.
        idle: Called again and again while other processes have locked all that is left.
    """
    waiting = []
    for shard in shards:
        with folder.lock_shard(shard) as ours:
            if ours:
                yield shard
            else:
                waiting.append(shard)
    for shard in waiting:
        ours, since = False, time.monotonic()
        while not ours:
            if time.monotonic() - since > SAY_AFTER:
                since = float("inf")  # once
                say_locked(folder.lock_file(f"{shard:05d}"))
            with folder.lock_shard(shard, wait=PATIENCE) as ours:
                if ours:
                    yield shard
                else:
                    idle()


def finish_shards(
    job: Job, folder: RunFolder, meter: Meter, shards: Iterable[int]
) -> Generator[tuple[int, FinishedShard]]:
    """Finishes shards, as they become free.

    Yields:
        Number and results of every shard that could be finished, once.

    Raises:
        UnreadableImage: In the end, if there are others.
    """
    unreadable, shards = None, list(shards)
    following = dict(pairwise(shards))
    for shard in locked_shards(shards, folder, meter.wait):
        try:
            done = complete_shard(job, folder, meter, shard, following.get(shard))
        except UnreadableImage as error:
            _log.warning("shard %d is left out, the others go on: %s", shard, error)
            unreadable = unreadable or error
        else:
            yield shard, done
    if unreadable is not None:
        raise unreadable


def complete_shard(
    job: Job, folder: RunFolder, meter: Meter, shard: int, following: int | None = None
) -> FinishedShard:
    """Computes and stores the results of a shard that the folder lacks, and reads the others.

    The images of a shard that is likely to follow are read beside the attacks.

    The adversarial images stay in the folder; they are not returned. In an adaptive suite, the
    first shards are finished before the others, whose rows they may drop, and images that are
    nearly broken count as broken: on a noisy network they are a third of those attacked and hardly
    anything is left of them.
    """
    least = 0.0 if job.suite.budget is None else NEARLY_BROKEN
    dropped = () if shard < scouts(job) else _rows_to_drop(job, folder, meter)

    of = job.identity(shard)
    first, *names = job.names(shard)

    def found(number: int, name: str, positions: np.ndarray) -> ShardResult | None:
        meter.begin(number, shard, len(positions))
        stored = folder.load(name, of, partial(job.flaw, positions))
        if stored is not None:
            meter.count(number, shard, len(positions), computed=False)
        return stored

    clean = found(0, first, np.arange(len(job.ids(shard))))
    if clean is None:
        clean = job.clean(shard)
        if following is not None and isinstance(job.images, LazyImages):
            job.images.read_ahead(job.ids(following))
        folder.save(first, clean, of)
        meter.count(0, shard, len(clean.positions), computed=True)
    worst, attacks = WorstCase(clean), list[ShardResult | None]()
    kept = KeptVersions(job, folder, shard, clean)
    for number, (row, name) in enumerate(zip(job.suite.attacks, names, strict=True)):
        positions = worst.positions if job.suite.independent else worst.unbroken(least)
        if not len(positions) or number in dropped:
            meter.skip(number + 1, shard)
            attacks.append(None)
            continue
        attacked = found(number + 1, name, positions)
        if attacked is not None:
            worst.update(attacked, number)
        else:
            start = kept.images(attacks, worst.by) if row.needs_worst else None
            attacked = job.attack(row, shard, positions, start)
            worst.update(attacked, number)
            kept.save(attacked, attacks, worst.by)
            folder.save(name, attacked, of)
            kept.drop_before(number)
            meter.count(number + 1, shard, len(positions), computed=True)
        attacks.append(replace(attacked, images=np.empty(0, np.float32)))  # no view of them
    kept.complete(attacks, worst.by)
    meter.count_images(shard, worst.select)
    return FinishedShard(clean, tuple(attacks))


def _rows_to_drop(job: Job, folder: RunFolder, meter: Meter) -> Collection[int]:
    """The rows that the first shards drop for the others, once those are finished."""
    if folder.dropped_rows is None:
        free = locked_shards(range(scouts(job)), folder, meter.wait)
        scouted = {scout: complete_shard(job, folder, meter, scout) for scout in free}
        folder.dropped_rows = dropped_rows(job, [scouted[scout] for scout in sorted(scouted)])
    return folder.dropped_rows
