"""What a run costs on paper, and whether small measured runs agree.

    python studies/cost_model.py --check quick adaptive-small

A run costs its probe, and for every image what its attacks take: those on images that fall to the
first attack little, those on survivors all that the suite allows. So

    seconds = images * (clean scoring + first row + survivors * (other rows + their scoring)) * pass

where a gradient takes three passes. Times of a pass on an H100 are measured for WRN-16-4
(`benchmarks/cuda/steps.csv`) and scaled by floating-point operations for others.

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

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from robust_snn import adapt, evaluate
from robust_snn.attacks import attacks_of_budget
from robust_snn.attacks.mode_ranking import ModeTrial
from robust_snn.data import load_dataset
from robust_snn.eval import AttackSpec, load_suite
from robust_snn.eval.execution import estimate
from robust_snn.eval.protocol.implementation import OWN
from robust_snn.eval.protocol.implementations import implementation

NET = "snn_vgg5_stog.digits"
GRADIENT = 3  # passes
CHOOSING = 32  # images on which a suite with a budget chooses its attacks
H100 = 32.116e-3 / 64  # seconds of a gradient of an image, float32, gated WRN-16-4 with T = 8
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
    trials = tuple(ModeTrial(mode, 0.0, 0.0, 0.0, torch.empty(0)) for mode in estimate.GUESSED)
    chosen = attacks_of_budget(
        suite.budget or "", trials, stochastic=case.noisy, classes=case.classes, norm=suite.norm
    )
    rows = [AttackSpec(implementation=OWN, **vars(row)) for row in chosen] + list(suite.attacks)
    draws = suite.draws.select + suite.draws.report if case.noisy else 2
    costs = []
    for row in rows:
        each = 1 if implementation(row).blind(row) else GRADIENT
        costs.append(estimate._passes(row) * each + draws)
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


def flops(name: str, side: int, **kwargs: Any) -> int:
    """Floating-point operations of a forward pass of one image."""
    net = timm.create_model(name, **kwargs).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.rand(1, 3, side, side))
    return int(counter.get_total_flops())


def measured(suite: str, images: int, seed: int, skip: int = 0) -> dict[str, float]:
    """A real run on a packaged network: passes of its attacks, and processor seconds."""
    apart = load_dataset("digits", n=CHOOSING)
    data = load_dataset("digits", n=CHOOSING + skip + images)
    choosing = {"calibration": (apart.images, apart.labels)} if load_suite(suite).budget else {}
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
        "passes": 4 * large["passes"],
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
    gated = flops("snn_wrn16_stog", 32, T=8)
    former = flops("snn_resformer", 224, num_classes=1000, img_size=224, stem="imagenet")
    print(json.dumps({"gflops_wrn16": gated / 1e9, "gflops_resformer": former / 1e9}))  # noqa: T201
    scaled = H100 * former / gated
    for case in (
        Case("CIFAR-10, gated WRN-16-4", 10_000, "adaptive-large", True, 10, 0.25, H100),
        Case("ImageNet, SpikingResformer", 5_000, "adaptive-medium", False, 1000, 0.05, scaled),
    ):
        print(json.dumps(on_paper(case)), flush=True)  # noqa: T201
    for suite in given.check:
        check(suite)


if __name__ == "__main__":
    main()
