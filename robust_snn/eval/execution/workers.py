"""A run on this machine: shards are finished here, and by more processes if asked for."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from robust_snn.data.lazy_images import UnreadableImage
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.progress import Meter
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import FinishedShard
from robust_snn.eval.execution.shards import finish_shards
from robust_snn.utils.errors import InputError, reason_of
from robust_snn.utils.interrupts import deferred
from robust_snn.utils.modules import device_of
from robust_snn.utils.user_code import loaded_modules

_log = logging.getLogger("robust_snn")
MOST_PER_CORE = 16
GRACE = 2.0  # seconds in which a worker may end what it writes
NO_THREAD = "can't start new thread"  # of Python, where memory or the number of threads is limited


def check_workers(job: Job, count: int | None) -> None:
    """Refuses workers that cannot be, before anything runs.

    Raises:
        InputError: If they are more than this machine can bear, or the network cannot be sent.
    """
    most = MOST_PER_CORE * (os.cpu_count() or 1)
    if count is not None and count > most:
        raise InputError(f"workers must be at most {most} on this machine, got {count}")
    if count is not None and min(count, job.shards) > 1:
        _parcel(job)


def _parcel(job: Job, *more: Any) -> bytes:
    """The job for other processes; the user's modules are loaded there before the network."""
    try:
        return pickle.dumps((loaded_modules(), job.on("cpu"), *more))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the network cannot be sent to other processes, or its images ({error}); "
            "define their classes in a module, or take one worker"
        ) from None


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
    with worker_processes(job, folder, min(count or 1, job.shards) - 1):
        yield from finish_shards(job, folder, meter, meter.longest_first(range(job.shards)))


@contextmanager
def worker_processes(job: Job, folder: RunFolder, count: int) -> Iterator[None]:
    """While inside, `count` more processes finish shards of the run.

    Each has its own copy of the network; on CUDA they take the devices in turn. The CPU threads of
    this process are divided among all. If one dies or is not started, the others do its work.

    Raises:
        InputError: If the network cannot be sent to another process.
    """
    if not count:
        yield
        return
    threads = torch.get_num_threads()
    share = max(1, threads // (count + 1))
    parcel = _parcel(job, folder)
    processes: list[BaseProcess] = []
    try:
        try:
            for device in _devices(job, count):
                _start(processes, device, share, parcel)
        except (OSError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and NO_THREAD not in str(error):
                raise
            said = "the system starts no more workers (%s): the others do their work"
            _log.warning(said, reason_of(error))
        torch.set_num_threads(share)
        yield
    finally:
        with deferred():
            torch.set_num_threads(threads)
            _end([process for process in processes if process.pid is not None])


def _start(processes: list[BaseProcess], device: str, threads: int, parcel: bytes) -> None:
    """Starts one more worker, which is ended with those that are there."""
    spawn = multiprocessing.get_context("spawn")
    with deferred():
        resource_tracker.ensure_running()  # which would let signals through when it starts
    receiver, sender = spawn.Pipe(duplex=False)
    with receiver:
        arguments = (receiver, device, threads)
        processes.append(spawn.Process(target=_work, args=arguments, daemon=True))
        with deferred():  # a process that is started by half could not be ended
            processes[-1].start()
    # a worker reads it once its libraries are loaded, for which nobody waits here
    threading.Thread(target=_send, args=(sender, parcel), daemon=True).start()


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ends workers, those that do not listen by force; the next run sweeps what they leave."""
    for process in processes:
        if process.exitcode not in (None, 0):
            _log.warning("a worker ended with %s; its work was done here", process.exitcode)
        process.terminate()
    end = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


def _devices(job: Job, count: int) -> list[str]:
    own = device_of(job.victim)
    if own.type != "cuda":
        return [str(own)] * count
    first, all_of_them = own.index or 0, torch.cuda.device_count()
    return [f"cuda:{(first + number) % all_of_them}" for number in range(1, count + 1)]


def _send(sender: Connection, parcel: bytes) -> None:
    with suppress(OSError):  # a worker that was ended
        sender.send_bytes(parcel)
    sender.close()


def _work(receiver: Connection, device: str, threads: int) -> None:
    """What a worker process runs: it finishes shards until none is left."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # it then leaves no half file
        threading.Thread(target=_end_with_parent, daemon=True).start()
        torch.set_num_threads(threads)
        parcel = receiver.recv_bytes()
        _, job, folder = pickle.loads(parcel)  # noqa: S301  from our own parent, no file
        job = job.on(device)
        meter = Meter(job, folder, lambda _: None)
        for _ in finish_shards(job, folder, meter, meter.longest_first(range(job.shards))):
            pass
    except UnreadableImage:  # the parent says it
        pass
    except (KeyboardInterrupt, EOFError):  # ended, or the parent was before it sent anything
        pass
    os._exit(0)  # what libraries do at an exit takes seconds, and a signal then is an error


def _end_with_parent() -> None:
    """Ends a worker whose parent process has died, by force where it does not listen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)
