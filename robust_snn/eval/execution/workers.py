"""A run on this machine: shards are finished here, and by more processes if asked for."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch

from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.progress import Meter, Progress
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import FinishedShard
from robust_snn.eval.execution.shards import complete_shard, locked_shards
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of
from robust_snn.utils.user_code import loaded_modules

_log = logging.getLogger("robust_snn")


def finished_shards(
    job: Job, folder: RunFolder, meter: Meter, count: int | None
) -> Generator[tuple[int, FinishedShard]]:
    """Finishes all shards; other processes that use the folder share the work.

    Args:
        job: What to do.
        folder: The folder of the run.
        meter: Reports the progress.
        count: Processes that work, this one among them; 1 by default.

    Yields:
        Number and results of every shard, once.

    Raises:
        InputError: If the network cannot be sent to another process.
    """
    with worker_processes(job, folder, (count or 1) - 1):
        for shard in locked_shards(range(job.shards), folder, meter.wait):
            yield shard, complete_shard(job, folder, meter, shard)


@contextmanager
def worker_processes(job: Job, folder: RunFolder, count: int) -> Iterator[None]:
    """While inside, `count` more processes finish shards of the run.

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
        parcel = pickle.dumps((loaded_modules(), job.on("cpu"), folder))
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
    """What a worker process runs: it finishes shards until none is left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it then leaves no half file
    torch.set_num_threads(threads)
    _, job, folder = pickle.loads(parcel)  # noqa: S301  from our own parent, no file
    job = job.on(device)
    try:
        meter = Meter(job, folder, _check_parent)
        for shard in locked_shards(range(job.shards), folder, meter.wait):
            complete_shard(job, folder, meter, shard)
    except KeyboardInterrupt:
        sys.exit(0)


def _check_parent(_: Progress) -> None:
    """Ends a worker whose parent process has died."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt
