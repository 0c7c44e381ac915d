"""What a run costs on paper, and whether small measured runs agree.

    python studies/cost_model.py --check quick adaptive-small

A run costs its probe, and for every image what its attacks take: those on images that fall to the
first attack little, those on survivors all that the suite allows. So

    seconds = images * (clean scoring + first row + survivors * (other rows + their scoring)) * pass

where a gradient takes three passes. Times of a gradient are measured: on an H100 for WRN-16-4
(`benchmarks/cuda/steps.csv`), on an H200 for the transformer.

With `--check`, pilots on a few images, which tell what an image costs, predict a run on four times
as many, under a fixed suite and under one that chooses its attacks on some images first. Processor
time is compared, which other work changes little.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robust_snn import adapt, evaluate
from robust_snn.attacks import attacks_of_budget
from robust_snn.attacks.mode_ranking import ModeTrial
from robust_snn.data import load_dataset
from robust_snn.eval import AttackSpec, load_suite
from robust_snn.eval.execution.estimate import GUESSED
from robust_snn.eval.execution.row_passes import is_blind, row_passes
from robust_snn.eval.protocol.implementation import OWN

NET = "snn_vgg5_stog.digits"
GRADIENT = 3  # passes
CHOOSING = 32  # images on which a suite with a budget chooses its attacks
# seconds of a gradient of an image in float32: gated WRN-16-4 with T = 8; snn_resformer with T = 4
H100, H200 = 32.116e-3 / 64, 4.01e-3
PRICE = 2.5  # dollars of a GPU-hour, to be replaced by one's own


class Case(NamedTuple):
    """Images under a suite; the share that the first attack leaves; a gradient's seconds."""

    name: str
    images: int
    suite: str
    noisy: bool
    classes: int
    survivors: float
    gradient: float


def passes(case: Case) -> tuple[float, float, float]:
    """Passes of an image: scoring it clean, its first attack, and all others where it survives."""
    suite = load_suite(case.suite)
    trials = tuple(ModeTrial(mode, 0.0, 0.0, 0.0, torch.empty(0)) for mode in GUESSED)
    chosen = attacks_of_budget(
        suite.budget or "", trials, stochastic=case.noisy, classes=case.classes, norm=suite.norm
    )
    rows = [AttackSpec(implementation=OWN, **vars(row)) for row in chosen] + list(suite.attacks)
    draws = suite.draws.select + suite.draws.report if case.noisy else 2
    costs = []
    for row in rows:
        each = 1 if is_blind(row) else GRADIENT
        costs.append(row_passes(row) * each + draws)
    return float(draws), float(costs[0]), float(sum(costs[1:]))


def on_paper(case: Case) -> dict[str, Any]:
    clean, first, others = passes(case)
    each = (clean + first + case.survivors * others) * case.gradient / GRADIENT
    hours = case.images * each / 3600
    return {
        **case._asdict(),
        "passes_of_a_survivor": round(clean + first + others),
        "gpu_hours": round(hours, 1),
        "dollars": round(hours * PRICE),
    }


def measured(suite: str, images: int, seed: int, skip: int = 0) -> dict[str, float]:
    """A real run on a packaged network: passes of its attacks, and processor seconds."""
    apart = load_dataset("digits", n=CHOOSING)
    data = load_dataset("digits", n=CHOOSING + skip + images)
    choosing = {"calibration": (apart.images, apart.labels)} if load_suite(suite).budget else {}
    torch.manual_seed(0)  # which the network's own noise follows
    skip, victim = CHOOSING + skip, adapt(NET)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        verdict = evaluate(
            victim,
            data.images[skip:],
            data.labels[skip:],
            suite=suite,
            eps=0.1,
            draws=20,
            out=Path(place) / "run",
            seed=seed,
            batch_size=16,
            report=False,
            **choosing,
        )
    spent = sum(row.forwards + 2 * row.backwards for row in verdict.attacks)
    return {
        "passes": float(spent),
        "processor_seconds": time.process_time() - began,
    }


def check(suite: str) -> None:
    """Predicts a run on 128 images from pilots on 16 and 32 others."""
    measured(suite, 8, 9)  # compiles
    small, large = measured(suite, 16, 0), measured(suite, 32, 0, 16)
    found = measured(suite, 128, 1, 48)
    per_image = (large["processor_seconds"] - small["processor_seconds"]) / 16
    predicted = {
        "passes": 128 / 48 * (small["passes"] + large["passes"]),
        "processor_seconds": large["processor_seconds"] + 96 * per_image,
    }
    for what, value in predicted.items():
        line = {"predicted": round(value, 1), "measured": round(found[what], 1)}
        line["ratio"] = round(value / found[what], 3)
        print(json.dumps({"suite": suite, "what": what, **line}), flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", nargs="*", default=[], help="suites of pilots to run")
    given = parser.parse_args()
    for case in (
        Case("CIFAR-10, gated WRN-16-4", 10_000, "adaptive-large", True, 10, 0.25, H100),
        Case("ImageNet, SpikingResformer", 5_000, "adaptive-medium", False, 1000, 0.05, H200),
    ):
        print(json.dumps(on_paper(case)), flush=True)  # noqa: T201
    for suite in given.check:
        check(suite)


if __name__ == "__main__":
    main()
