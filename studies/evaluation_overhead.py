"""What an evaluation costs apart from the attacks that it runs, in processor time and in memory.

    python studies/evaluation_overhead.py --images 256

The overhead is all that an evaluation does outside of its attacks, their checking and their
scoring: checks before the run, the run's folder, statistics, the report. The diagnostics that every
verdict gets are a fixed cost of a few gradients. Memory is the peak of a fresh process, less its
images, for two numbers of images.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import mock

import timm
import torch

import robust_snn
from robust_snn import Victim
from robust_snn.data import ImageSet, load_dataset
from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.eval.execution import final_verdict
from robust_snn.eval.execution.job import Job

T = TypeVar("T")
EPS, BATCH = 0.02, 32
SUITE = Suite(
    "benchmark",
    (
        AttackSpec("apgd-ce", "autoattack", "apgd-ce", eot=4, steps=20),
        AttackSpec("square", "autoattack", "square", noise="frozen", eot=4, steps=100),
    ),
    draws=Draws(20, 20),
)


def overhead(victim: Victim, data: ImageSet) -> dict[str, float]:
    """Processor time of one evaluation, in seconds, and its shares outside of the attacks.

    Both parts belong to the same run, so what else the machine does disturbs their ratio little.
    """
    within = Counter[str]()

    def timed(work: Callable[..., T], name: str) -> Callable[..., T]:
        def wrapper(*arguments: Any) -> T:
            began = time.process_time()
            try:
                return work(*arguments)
            finally:
                within[name] += time.process_time() - began

        return wrapper

    with (
        tempfile.TemporaryDirectory() as out,
        mock.patch.object(Job, "clean", timed(Job.clean, "pieces")),
        mock.patch.object(Job, "attack", timed(Job.attack, "pieces")),
        mock.patch.object(final_verdict, "_masking", timed(final_verdict._masking, "diagnostics")),
    ):
        began = time.process_time()
        options = {"suite": SUITE, "out": out, "eps": EPS, "batch_size": BATCH}
        robust_snn.evaluate(victim, data.images, data.labels, **options)  # type: ignore[arg-type]
        whole = time.process_time() - began
    runs = whole - within["pieces"] - within["diagnostics"]
    return {
        "pieces_s": within["pieces"],
        "overhead": runs / within["pieces"],
        "diagnostics": within["diagnostics"] / within["pieces"],
    }


def peak(count: int) -> float:
    """Peak memory in MiB of a process that evaluates so many images, less the images themselves."""
    child = os.fork()
    if not child:
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        images = torch.rand(count, 3, 32, 32)
        labels = torch.zeros(count, dtype=torch.long)
        rows = (AttackSpec("fgsm", "robust_snn", "fgsm"),)
        with tempfile.TemporaryDirectory() as out:
            robust_snn.evaluate(net, images, labels, suite=Suite("one", rows), out=out, eps=EPS)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError("the measured process failed")
    return usage.ru_maxrss / 1024 - count * 3 * 32 * 32 * 4 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    count = parser.parse_args().images
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print({f"peak_mib_{count}": peak(count) for count in (256, 4096)})
    net = timm.create_model("snn_vgg5_stog", T=4, width=0.25, head_width=64, img_size=8, in_chans=1)
    victim = Victim(net.eval())
    overhead(victim, load_dataset("digits", n=BATCH, size=8))  # compiles
    print(overhead(victim, load_dataset("digits", n=count, size=8)))


if __name__ == "__main__":
    main()
