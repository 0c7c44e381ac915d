"""A run on a Ray cluster: shards are tasks, every worker is an actor with its own network.

Results go through the run's folder, which all machines must see under the same path. An actor gets
a shard once it has started, however late its machine comes. Ray restarts an actor that dies and
gives its task back to it. Shards that even then are not finished are done in the calling process.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from robust_snn.data.lazy_images import UnreadableImage
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.progress import Meter
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import FinishedShard
from robust_snn.eval.execution.shards import PATIENCE, complete_shard, finish_shards, locked_shards
from robust_snn.utils.errors import InputError, first_line, missing_extra
from robust_snn.utils.folder_lock import SAY_AFTER
from robust_snn.utils.modules import device_of
from robust_snn.utils.user_code import loaded_modules
from robust_snn.utils.version import __version__

_log = logging.getLogger("robust_snn")
RETRIES = 3  # of a shard; an actor starts again whenever its machine comes back
REST = 2.0  # seconds after which an actor that was lost is asked again
TAIL = 10.0  # seconds of silence after which the caller looks for shards that nobody works on


def require_ray() -> None:
    """Raises `ImportError`, which names the extra, unless Ray is installed."""
    if importlib.util.find_spec("ray") is None:
        raise missing_extra("Ray", "ray")


def finished_shards(
    job: Job,
    folder: RunFolder,
    meter: Meter,
    count: int | None,
    address: str,
    gpu_share: float = 1.0,
) -> Generator[tuple[int, FinishedShard]]:
    """Finishes all shards on a cluster.

    Args:
        job: What to do.
        folder: The folder of the run, under a path that all machines see.
        meter: Reports the progress.
        count: Number of workers; by default as many as the GPUs, or else the CPUs, allow.
        address: `"local"` starts a cluster on this machine; others are those of `ray.init`.
        gpu_share: Of a GPU, for each worker of a network that is on one.

    Yields:
        Number and results of every shard, once.

    Raises:
        ImportError: If Ray is not installed.
        InputError: If there is no cluster at the address.
    """
    require_ray()
    threads = torch.get_num_threads()
    if address == "local" and count is not None:
        threads = max(1, threads // count)
    with connected(address, (count or 1) * threads) as ray:
        # kept here, so that an actor can start again; a user's modules load before the network
        parcel = ray.put((loaded_modules(), job.on("cpu")))
        gpu = gpu_share if device_of(job.victim).type == "cuda" else 0.0
        actors = _actors(ray, job, parcel, folder, count, threads, gpu)
        left = set(range(job.shards))
        for shard in _handed_out(ray, actors, meter, meter.longest_first(sorted(left))):
            left.discard(shard)
            yield shard, complete_shard(job, folder, meter, shard)
        yield from finish_shards(job, folder, meter, sorted(left))


def _handed_out(ray: Any, actors: list[Any], meter: Meter, shards: Iterable[int]) -> Iterator[int]:
    """Hands shards to actors that have started; yields those that are finished.

    An actor whose machine was lost gets nothing until it has started again, elsewhere. Once all are
    handed out, it ends when nothing is heard for a while: machines may not come back. Shards that
    others work on are locked by then.
    """
    from ray.exceptions import ActorDiedError, RayError, RayTaskError

    queue, heard, quiet = deque(shards), time.monotonic(), False
    busy: dict[Any, tuple[Any, int | None]] = {}  # by what is awaited
    absent = [(heard, actor) for actor in actors]  # and when each is asked whether it is there
    while busy or absent:
        asked = [each for each in absent if each[0] <= time.monotonic()]
        absent = [each for each in absent if each not in asked]
        busy |= {actor.started.remote(): (actor, None) for _, actor in asked}
        silent, working = time.monotonic() - heard, any(s is not None for _, s in busy.values())
        if not queue and (not working or silent > TAIL):
            return
        ready = ray.wait(list(busy), timeout=PATIENCE)[0] if busy else []
        if not ready:
            time.sleep(0 if busy else PATIENCE)
            meter.wait()
            if not quiet and silent > SAY_AFTER:
                quiet = True  # it is said once, and not where one has started
                _log.warning("no worker has started yet: the cluster may have no room for one")
        for result in ready:
            actor, shard = busy.pop(result)
            try:
                answer = ray.get(result)
            except RayTaskError as error:
                if not isinstance(error.cause, UnreadableImage):  # which the end tries here
                    raise error.cause from None
            except RayError as error:
                if shard is not None:
                    _log.warning("a shard is done here, no worker could: %s", type(error).__name__)
                if isinstance(error, ActorDiedError):  # it cannot even be made
                    _log.warning("a worker is left out: %s", first_line(error))
                else:
                    absent.append((time.monotonic() + REST, actor))
                continue
            else:
                quiet = True
                if shard is not None:
                    yield shard
                elif answer != _versions():
                    _log.warning("a worker is left out: it has %s, not %s", answer, _versions())
                    continue
            heard = time.monotonic()
            if queue:
                following = queue.popleft()
                named = actor.finish.options(name=f"Worker, shard {following + 1}")
                busy[named.remote(following)] = actor, following


def _versions() -> dict[str, str]:
    """Versions on which numbers depend, in this process."""
    return {"robust_snn": __version__, "torch": torch.__version__}


@contextmanager
def connected(address: str, cpus: int) -> Iterator[Any]:
    """Ray itself, connected to a cluster, which is left again unless it was joined before.

    Args:
        address: `"local"` starts one on this machine, with so many `cpus`.
        cpus: At least those of this machine.

    Raises:
        ImportError: If Ray is not installed.
        InputError: If there is no cluster at the address.
    """
    require_ray()
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(ray, address, cpus)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any, address: str, cpus: int) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        settings |= {"num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": False}
    for again in (True, False):
        try:
            ray.init(address=address, **settings)
        except Exception as error:  # Ray raises the bare class too
            # Ray allows itself 30 seconds, too few on a busy machine whose disk is cold.
            if again and "timed out during startup" in str(error):
                ray.shutdown()
                continue
            text = " ".join(str(error).split())
            raise InputError(
                f"no Ray cluster at '{address}' ({text:.120}); take local, auto or HOST:PORT"
            ) from None
        return


def _actors(
    ray: Any,
    job: Job,
    parcel: Any,
    folder: RunFolder,
    count: int | None,
    threads: int,
    gpu: float,
) -> list[Any]:
    if count is None:
        there = ray.cluster_resources()
        each = int(1 / gpu) if gpu else 0  # a share of two GPUs is of no use
        count = int(there.get("GPU", 0)) * each if gpu else int(there.get("CPU", 1) // threads)
    settings = {"max_restarts": -1, "max_task_retries": RETRIES}
    actor = ray.remote(num_cpus=threads, num_gpus=gpu, **settings)(Worker)
    count = max(1, min(count, job.shards))
    return [actor.remote(parcel, folder, bool(gpu), threads) for _ in range(count)]


class Worker:
    """One process of the cluster with one network.

    Args:
        parcel: The user's modules, which are loaded by now, and what to do.
        folder: The folder of the run.
        gpu: Whether to take the GPU that Ray assigns.
        threads: CPU threads.
    """

    def __init__(self, parcel: tuple[Any, Job], folder: RunFolder, gpu: bool, threads: int) -> None:
        _, job = parcel
        torch.set_num_threads(threads)
        self.job = job.on("cuda" if gpu else "cpu")
        self.folder = folder
        self.meter = Meter(job, folder, lambda _: None)

    def started(self) -> dict[str, str]:
        """The versions of what decides here, once this process is there."""
        return _versions()

    def finish(self, shard: int) -> None:
        """Finishes a shard."""
        for free in locked_shards([shard], self.folder, self.meter.wait):
            complete_shard(self.job, self.folder, self.meter, free)
