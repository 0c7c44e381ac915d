"""Who does which shard: this process, more of them beside it, or whoever else uses the folder."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.progress import Meter, Progress
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import ShardResult, WorstCase
from robust_snn.eval.execution.summary import Shard
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of

_log = logging.getLogger("robust_snn")
PATIENCE = 0.5  # seconds between two looks at a shard that another process holds


def locked_shards(
    shards: Iterable[int], folder: RunFolder, idle: Callable[[], None]
) -> Generator[int]:
    """Shards to finish here: first those that no process holds, then what the others leave.

    A shard is held while the caller works at it. What another process has finished comes too; its
    pieces only need to be loaded.

    Args:
        shards: The shards that need to be finished.
        folder: The folder of the run.
        idle: Called again and again while another process holds what is left.
    """
    held = []
    for shard in shards:
        with folder.lock_shard(shard) as ours:
            if ours:
                yield shard
            else:
                held.append(shard)
    for shard in held:
        ours = False
        while not ours:
            with folder.lock_shard(shard, wait=PATIENCE) as ours:
                if ours:
                    yield shard
                else:
                    idle()


def complete_shard(job: Job, folder: RunFolder, meter: Meter, shard: int) -> Shard:
    """Finishes a shard, as far as the folder does not hold it already.

    Of its images, only the folder keeps the adversarial versions.
    """

    def piece(row: AttackSpec | None, name: str, compute: Callable[[], ShardResult]) -> ShardResult:
        meter.begin(row, shard)
        found = folder.load(name)
        if computed := found is None:
            found = compute()
            folder.save(name, found)
        meter.finish([name], computed=computed)
        return replace(found, images=found.images[:0])

    first, *names = job.names(shard)
    clean = piece(None, first, lambda: job.clean(shard))
    worst, attacks = WorstCase(clean), list[ShardResult | None]()
    for row, name in zip(job.suite.attacks, names, strict=True):
        standing = worst.all if job.suite.independent else worst.robust_so_far
        if len(standing):
            found = piece(row, name, partial(job.attack, row, shard, standing))
            worst.update(found)
            attacks.append(found)
        else:
            meter.finish([name], computed=False)
            attacks.append(None)
    meter.close(worst.select)
    return Shard(clean, tuple(attacks))


@contextmanager
def worker_processes(job: Job, folder: RunFolder, count: int) -> Iterator[None]:
    """While the caller works at a run, `count` more processes work at it too.

    Each has its own copy of the network; on CUDA they take the devices in turn. The CPU threads of
    this process are divided among all. If one dies, the others do its work.

    Raises:
        InputError: If the network cannot be sent to another process.
    """
    if not count:
        yield
        return
    threads = torch.get_num_threads()
    share = max(1, threads // (count + 1))
    try:
        parcel = pickle.dumps((job.on("cpu"), folder))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the network cannot be sent to other processes ({error}); "
            "define its class in a module, or take one worker"
        ) from None
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_work, args=(parcel, device, share), daemon=True)
        for device in _devices(job, count)
    ]
    try:
        for process in processes:
            process.start()
        torch.set_num_threads(share)
        yield
    finally:
        torch.set_num_threads(threads)
        for process in processes:
            if process.exitcode not in (None, 0):
                _log.warning("a worker ended with %s; its work was done here", process.exitcode)
            process.terminate()
            process.join()


def _devices(job: Job, count: int) -> list[str]:
    own = device_of(job.victim)
    if own.type != "cuda":
        return [str(own)] * count
    first, all_of_them = own.index or 0, torch.cuda.device_count()
    return [f"cuda:{(first + number) % all_of_them}" for number in range(1, count + 1)]


def _work(parcel: bytes, device: str, threads: int) -> None:
    """What a process beside the caller's does: whatever is left, quietly."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it then leaves no half file
    torch.set_num_threads(threads)
    job, folder = pickle.loads(parcel)  # noqa: S301  from our own parent, no file
    job = job.on(device)
    try:
        meter = Meter(job, folder, _while_parent_lives)
        for shard in locked_shards(range(job.shards), folder, meter.wait):
            complete_shard(job, folder, meter, shard)
    except KeyboardInterrupt:
        sys.exit(0)


def _while_parent_lives(_: Progress) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt
