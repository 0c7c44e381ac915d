"""How a run grows with workers that are lost: timed attacks in a real run, and simulated.

    python studies/simulated_cluster.py --real 8 --workers 8 64 512 1024

First, forks of this process share a real run: its folder, locks, results and kept images are real,
an attack is a sleep after which made-up results come back. What a piece takes beyond its sleep is
the overhead. Then a discrete-event simulation hands 10,000 shards of 12 attacks, of a minute each
on average, to workers in the order of `Meter.longest_first`; one worker in twenty is lost per hour
with the attack that it was at, and comes back. Efficiency is attack time over all time that is paid
for, starts of machines included.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import tempfile
import time
import tracemalloc
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from robust_snn.data.image_digests import DataDigests
from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.progress import Meter
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import ShardResult
from robust_snn.eval.execution.shards import finish_shards
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.utils.figures import new_figure

ROWS, BATCH, EPS = 12, 64, 8 / 255
LEFT = np.array([1.0, *(0.5 * 0.9 ** np.arange(ROWS - 1))])  # share of the images that a row meets
SPREAD = 0.3  # of the logarithm of an attack's time
MEMORY = {32: 1.476, 320: 1.417, 1280: 1.436}  # peak in GB by images, of images_on_disk.py


class Cluster(NamedTuple):
    """What is simulated: workers, how they are lost, and what the runner takes; all in seconds.

    `lost` is the share of the workers that is lost per hour, `noticed` the time until the shard of
    a lost worker is handed out again, `start` that of a new machine with its libraries and network,
    `overhead` what a piece takes beyond its attack.
    """

    workers: int
    lost: float = 0.05
    noticed: float = 60.0
    start: float = 180.0
    overhead: float = 0.1


@dataclass(frozen=True)
class Timed(Job):
    """A job whose attacks are sleeps, and whose results are made up."""

    sleep: float = 0.0

    def clean(self, shard: int) -> ShardResult:
        return self._made(np.arange(len(self.ids(shard))), shard, 0)

    def attack(self, row: Any, shard: int, positions: np.ndarray, worst: Any = None) -> ShardResult:
        time.sleep(self.sleep * len(positions) / self.batch_size)
        return self._made(positions, shard, 1 + self.suite.attacks.index(row))

    def _made(self, positions: np.ndarray, shard: int, row: int) -> ShardResult:
        rng, count = np.random.default_rng((shard, row)), len(positions)
        falls = LEFT[row] / LEFT[row - 1] if 0 < row < ROWS else 1.0
        right = (rng.random(count) < falls).astype(float)
        clean = self.images[torch.from_numpy(self.ids(shard)[positions])].numpy()
        signs = rng.choice(np.float32([-EPS, EPS]), clean.shape)
        return ShardResult(
            positions=positions,
            images=np.clip(clean + signs, 0, 1) if row else np.empty((0, *clean.shape[1:])),
            select=right,
            margin=right - row,
            predictions=np.zeros((count, self.suite.draws.report), np.int64),
            claimed_robust=right > 0,
        )


def job(
    shards: int, sleep: float = 0.0, images: Any = None, attacks: int = ROWS, draws: int = 20
) -> Timed:
    rows = tuple(AttackSpec(f"row-{n}", "robust_snn", "pgd", steps=10) for n in range(attacks))
    count = shards * BATCH
    return Timed(
        victim=None,  # type: ignore[arg-type]  # nothing asks it
        images=torch.empty(count, 1, 1, 1) if images is None else images,
        labels=torch.zeros(count, dtype=torch.long),
        suite=Suite("timed", rows, draws=Draws(10, draws)),
        threat=Threat("Linf", EPS),
        seed=0,
        batch_size=BATCH,
        digests=DataDigests("", ("",) * count),
        sleep=sleep,
    )


def work(made: Timed, folder: RunFolder, pipe: Any) -> None:
    torch.set_num_threads(1)
    meter = Meter(made, folder, lambda _: None)
    began, spent = time.perf_counter(), time.process_time()
    for _ in finish_shards(made, folder, meter, meter.longest_first(range(made.shards))):
        pass
    pipe.send((time.perf_counter() - began, time.process_time() - spent))


def real(workers: int, sleep: float = 1.0) -> dict[str, Any]:
    """A real run of timed attacks: overhead per piece, its own computing time, and disk."""
    made = job(2 * workers, sleep, torch.rand(2 * workers * BATCH, 3, 32, 32))
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run", {"seed": 0})
        pipes = [fork.Pipe() for _ in range(workers)]
        for _, theirs in pipes:
            fork.Process(target=work, args=(made, folder, theirs)).start()
        seconds, spent = zip(*(ours.recv() for ours, _ in pipes), strict=True)
        pieces = len(folder.finished())
        files = [path for path in folder.path.rglob("*") if path.is_file()]
        began = time.perf_counter()
        resumed = list(finish_shards(made, folder, Meter(made, folder, lambda _: None), range(1)))
        return {
            "real workers": workers,
            "pieces": pieces,
            "seconds": round(max(seconds), 2),
            "computing per piece": round(sum(spent) / pieces, 4),
            "files per shard": len(files) / made.shards,
            "seconds to read a finished shard": round(time.perf_counter() - began, 3),
            "shards read": len(resumed),
        }


def grown(shards: int, attacks: int, draws: int, keep: str = "worst") -> dict[str, Any]:
    """Disk, files and computing time of a real run whose attacks take no time."""
    made = job(shards, 0.0, torch.rand(shards * BATCH, 3, 32, 32), attacks, draws)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run", {"seed": 0}, keep=keep)
        spent, meter = time.process_time(), Meter(made, folder, lambda _: None)
        for _ in finish_shards(made, folder, meter, range(shards)):
            pass
        spent = time.process_time() - spent
        parts = {
            part: [path.stat().st_size for path in (folder.path / part).rglob("*.npz")]
            for part in ("pieces", "versions")
        }
    images = shards * BATCH
    return {
        "images": images,
        "attacks": attacks,
        "draws": draws,
        "keep": keep,
        "answer_bytes_per_image": round(sum(parts["pieces"]) / images),
        "version_bytes_per_image": round(sum(parts["versions"]) / images),
        "files": sum(map(len, parts.values())),
        "ms_per_piece": round(1000 * spent / len(parts["pieces"]), 1),
    }


def plot(path: Path, runs: list[dict[str, Any]], sizes: list[dict[str, Any]]) -> None:
    figure = new_figure(10, 2.8)
    left, middle, right = figure.subplots(1, 3)
    for order in dict.fromkeys(run["order"] for run in runs):
        of = [run for run in runs if run["order"] == order]
        left.plot(
            [r["workers"] for r in of], [100 * r["efficiency"] for r in of], "o-", label=order
        )
    left.set(xscale="log", xlabel="workers", ylabel="efficiency (%)", ylim=(80, 100))
    left.legend(fontsize=7)
    for keep in ("all", "worst"):
        of = [size for size in sizes if size["keep"] == keep and size["draws"] == 20]
        of = [size for size in of if size["images"] == of[0]["images"]]
        total = [(s["answer_bytes_per_image"] + s["version_bytes_per_image"]) / 1e3 for s in of]
        middle.plot([size["attacks"] for size in of], total, "o-", label=f"--keep {keep}")
    middle.axhline(3 * 32 * 32 / 1e3, color="grey", lw=0.8, label="the image as bytes")
    middle.set(xlabel="attacks", ylabel="kB per image of 3x32x32", ylim=(0, None))
    middle.legend(fontsize=7)
    counts = list(MEMORY)
    right.plot(counts, [MEMORY[count] for count in counts], "o-")
    right.set(
        xscale="log", xlabel="images of 3x224x224", ylabel="peak of a worker (GB)", ylim=(0, 2)
    )
    figure.savefig(path, dpi=110)


def times(shards: int, mean: float, seed: int = 0) -> np.ndarray:
    """Seconds of every attack on every shard, `[shards, ROWS]`, of a mean."""
    rng = np.random.default_rng(seed)
    met = rng.binomial(BATCH, LEFT, (shards, ROWS)) / BATCH
    drawn = met * rng.lognormal(0, SPREAD, (shards, ROWS))
    return drawn * mean / drawn.mean()


def simulate(
    cluster: Cluster, seconds: np.ndarray, order: list[int], seed: int = 0
) -> dict[str, Any]:
    """Hands shards to workers until all are finished.

    Args:
        cluster: The workers.
        seconds: Of every attack on every shard, `[shards, rows]`.
        order: In which shards are handed out.
        seed: Of the losses.
    """
    rng, waiting, left = np.random.default_rng(seed), deque(order), len(order)
    next_row = np.zeros(len(order), int)  # of every shard: results that are there stay
    rate = cluster.lost / 3600
    lives = [rng.exponential(1 / rate) if rate else np.inf for _ in range(cluster.workers)]
    free, events = list(range(cluster.workers)), list[tuple[float, int, str, int]]()
    now, idle_since, lost, redone = 0.0, None, 0, 0.0
    while left:
        while free and waiting:
            worker, shard = free.pop(), waiting.popleft()
            if lives[worker] <= now:  # lost while it had nothing to do, and back
                lives[worker] = now + rng.exponential(1 / rate)
            ends = now + np.cumsum(seconds[shard, next_row[shard] :] + cluster.overhead)
            if ends[-1] <= lives[worker]:
                heapq.heappush(events, (ends[-1], worker, "done", shard))
                continue
            whole = int((ends <= lives[worker]).sum())
            next_row[shard] += whole
            dies = lives[worker]
            redone += dies - (ends[whole - 1] if whole else now)
            lives[worker] = dies + cluster.start + rng.exponential(1 / rate)
            heapq.heappush(events, (dies + cluster.noticed, worker, "again", shard))
            heapq.heappush(events, (dies + cluster.start, worker, "back", shard))
            lost += 1
        if free and idle_since is None:
            idle_since = now
        now, worker, what, shard = heapq.heappop(events)
        if what == "again":
            waiting.appendleft(shard)  # it has waited longest
        else:
            free.append(worker)
            left -= what == "done"
    paid = cluster.workers * now
    return {
        "workers": cluster.workers,
        "hours": round(now / 3600, 2),
        "efficiency": round(float(seconds.sum() / paid), 4),
        "tail_minutes": round((now - (now if idle_since is None else idle_since)) / 60, 1),
        "lost": lost,
        "redone": round(redone / paid, 4),
        "overhead": round(cluster.overhead * seconds.size / paid, 4),
    }


def planned(shards: int) -> tuple[list[int], dict[str, Any]]:
    """The order of the real scheduler, with the memory and time that it takes at the head."""
    with tempfile.TemporaryDirectory() as place:
        made, folder = job(shards), RunFolder(place, {"seed": 0})
        tracemalloc.start()
        began = time.perf_counter()
        order = Meter(made, folder, lambda _: None).longest_first(range(shards))
        took, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return order, {
        "shards": shards,
        "plan_seconds": round(took, 2),
        "plan_MB": round(peak / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 256, 512, 1024])
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--mean", type=float, default=60.0, help="seconds of an attack on a shard")
    parser.add_argument("--overhead", type=float, default=0.1, help="seconds of a piece beside it")
    parser.add_argument("--real", type=int, default=0, help="real workers whose attacks are sleeps")
    parser.add_argument("--plot", type=Path, help="where a figure of all that goes")
    given = parser.parse_args()
    if given.real:
        print(json.dumps(real(given.real)), flush=True)  # noqa: T201
    growing = [(2, n, 20, keep) for keep in ("worst", "all") for n in (1, 4, 8, 12)]
    sizes = [grown(*of) for of in (*growing, (8, 12, 20), (2, 12, 100))]
    for size in sizes:
        print(json.dumps(size), flush=True)  # noqa: T201
    order, plan = planned(given.shards)
    print(json.dumps(plan), flush=True)  # noqa: T201
    seconds = times(given.shards, given.mean)
    known = np.argsort(-seconds.sum(1)).tolist()
    runs = []
    for workers in given.workers:
        for name, by in (("as handed out", order), ("if times were known", known)):
            cluster = Cluster(workers, overhead=given.overhead)
            runs.append({"order": name, **simulate(cluster, seconds, by)})
            print(json.dumps(runs[-1]), flush=True)  # noqa: T201
    if given.plot is not None:
        plot(given.plot, runs, sizes)


if __name__ == "__main__":
    main()
