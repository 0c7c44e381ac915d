"""What the runner costs beside the attacks that it runs, in processor time and in memory.

    python benchmarks/runner.py --rounds 5

Each round evaluates a small network on digits, then makes the same attack, checking and scoring
calls without the runner: no plan, no folder, no statistics. The diagnostics that every verdict gets
are a fixed cost of a few gradients; they are timed on their own. Memory is the peak of a fresh
process, less its images, for two numbers of images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import timm
import torch

import robust_snn
from robust_snn.data import load_dataset
from robust_snn.eval import Attack, Draws, Suite, masking, runner
from robust_snn.eval.constraints import Threat
from robust_snn.eval.job import Job
from robust_snn.eval.pieces import Worst

EPS, BATCH = 0.02, 32
SUITE = Suite(
    "benchmark",
    (
        Attack("apgd-ce", "autoattack", "apgd-ce", eot=4, steps=20),
        Attack("square", "autoattack", "square", noise="frozen", eot=4, steps=100),
    ),
    draws=Draws(20, 20),
)


def bare(job: Job) -> None:
    """The attack, checking and scoring calls of a run, and nothing else."""
    for shard in range(job.shards):
        worst = Worst(job.clean(shard))
        for row in job.suite.attacks:
            if len(standing := worst.standing):
                worst.meet(job.attack(row, shard, standing))


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def overhead(job: Job, rounds: int) -> dict[str, float]:
    """Median ratios over interleaved rounds."""
    diagnosing = 0.0
    diagnose = masking.masking

    def timed(*arguments: object) -> object:
        nonlocal diagnosing
        began = time.process_time()
        found = diagnose(*arguments)  # type: ignore[arg-type]
        diagnosing = time.process_time() - began
        return found

    runner.masking = timed  # type: ignore[assignment]
    rows = []
    bare(job)  # compiles
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            whole = seconds(
                lambda out=out: robust_snn.evaluate(  # type: ignore[misc]
                    job.victim,
                    job.images,
                    job.labels,
                    suite=SUITE,
                    out=out,
                    eps=EPS,
                    batch_size=BATCH,
                )
            )
        plain = seconds(lambda: bare(job))
        rows.append((plain, (whole - diagnosing) / plain, whole / plain))
        print("bare {:.2f} s, runner {:.3f}, with diagnostics {:.3f}".format(*rows[-1]))  # noqa: T201
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    return dict(zip(("bare_s", "runner", "runner_and_diagnostics"), middle, strict=True))


def peak(count: int) -> float:
    """Peak memory in MiB of a process that evaluates so many images, less the images themselves."""
    child = os.fork()
    if not child:
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        images = torch.rand(count, 3, 32, 32)
        labels = torch.zeros(count, dtype=torch.long)
        rows = (Attack("fgsm", "robust_snn", "fgsm"),)
        with tempfile.TemporaryDirectory() as out:
            robust_snn.evaluate(net, images, labels, suite=Suite("one", rows), out=out, eps=EPS)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError("the measured process failed")
    return usage.ru_maxrss / 1024 - count * 3 * 32 * 32 * 4 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    memory = {f"peak_mib_{count}": peak(count) for count in (256, 4096)}
    print(memory)  # noqa: T201
    data = load_dataset("digits", n=options.images, size=8)
    net = timm.create_model("snn_vgg5_stog", T=4, width=0.25, head_width=64, img_size=8, in_chans=1)
    victim = robust_snn.Victim(net.eval())
    job = Job(victim, data.images, data.labels, SUITE, Threat("Linf", EPS), 0, BATCH)
    print(overhead(job, options.rounds))  # noqa: T201


if __name__ == "__main__":
    main()
