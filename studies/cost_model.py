"""What a run costs on paper, and whether measured runs agree.

    python studies/cost_model.py
    python studies/cost_model.py --check snn_vgg5_stog.digits adaptive-small

A run goes through batches. What a row of its suite takes of a batch depends on how many images the
rows before it left there: a pass of few takes nearly as long as one of many, so a pace is measured
at several sizes and interpolated. The seconds of a run are those of

    batches * sum over rows of (passes of the row * pace(images left) + draws * pace of scoring)

and of the clean images, of what chooses the attacks of an adaptive suite, and of the checks after
them. The paces of the cases on paper are of steps measured on GPUs (`benchmarks/cuda/steps.csv`).

With `--check`, the paces of a packaged network are measured on this machine, a pilot of 64 images
tells what every row leaves, and both predict a run on others. Passes do not change with other work
on the machine; of time, that of the processor is compared, which changes less than that of the day.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_snn import Victim, adapt, evaluate
from robust_snn.attacks import attacks_of_budget, make_attack
from robust_snn.attacks.mode_ranking import ModeTrial, RankingEffort, registered_modes
from robust_snn.data import load_dataset
from robust_snn.eval import AttackSpec, Verdict, load_suite
from robust_snn.eval.execution.estimate import CHECKS, GUESSED
from robust_snn.eval.execution.final_verdict import DIAGNOSED
from robust_snn.eval.execution.row_passes import is_blind, row_passes
from robust_snn.eval.protocol.implementation import OWN

CHOOSING = 32  # images on which a suite with a budget chooses its attacks, at most
PRICE = 2.5  # dollars of a GPU-hour, to be replaced by one's own
DRAWS = 2.5  # that a gradient of a noisy network averages where it takes as many as it needs
SCORED = 6, 27  # scoring passes of a trial of the choice, of a network without and with noise
PILOT, SIZES, REPEATS = 64, (1, 4, 16, 64), 5


@dataclass(frozen=True)
class Pace:
    """Seconds of a pass over a batch, by its images."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    def __call__(self, images: float) -> float:
        """Seconds of so many images; in proportion beyond the largest batch measured."""
        beyond = max(1.0, images / self.sizes[-1])
        return beyond * float(np.interp(images / beyond, self.sizes, self.seconds))

    def __mul__(self, factor: float) -> Pace:
        return Pace(self.sizes, tuple(factor * seconds for seconds in self.seconds))


@dataclass(frozen=True)
class Paces:
    """Of a step with a gradient, of a query of our Square, and of a pass without gradient."""

    step: Pace
    query: Pace
    score: Pace


def of_gradient(gradient: Pace) -> Paces:
    """Paces where only a gradient's is known, which takes three passes."""
    return Paces(gradient, gradient * (1 / 3), gradient * (1 / 3))


# float32: a gated WRN-16-4 with T = 8 (H100 at 64, H200 at 8, where kernels wait for their launch);
# snn_resformer at 224x224 with T = 4 on an H200
WRN = of_gradient(Pace((8, 64), (17.9e-3, 32.116e-3)))
RESFORMER = of_gradient(Pace((8, 16, 32, 64), (59e-3, 85e-3, 131e-3, 256e-3)))


@dataclass(frozen=True)
class Case:
    """Images under a suite, in batches; the share that each row meets, the last one repeated."""

    name: str
    images: int
    suite: str
    noisy: bool
    classes: int
    met: tuple[float, ...]
    batch: int = 64


def rows_of(case: Case) -> list[AttackSpec]:
    """The rows of a case, whatever modes an adaptive suite would choose for them."""
    suite = load_suite(case.suite)
    suite = suite if case.noisy else suite.deterministic()
    if suite.budget is None:
        return list(suite.attacks)
    trials = tuple(ModeTrial(mode, 0.0, 0.0, 0.0, torch.empty(0)) for mode in GUESSED)
    chosen = attacks_of_budget(
        suite.budget, trials, stochastic=case.noisy, classes=case.classes, norm=suite.norm
    )
    return [AttackSpec(implementation=OWN, **vars(row)) for row in chosen] + list(suite.attacks)


def cost(case: Case, paces: Paces) -> dict[str, float]:
    """Seconds of the parts of a run."""
    suite, rows = load_suite(case.suite), rows_of(case)
    batches = ceil(case.images / case.batch)
    full = case.images / batches
    draws = suite.draws.select + suite.draws.report if case.noisy else 2
    met = [*case.met, *[case.met[-1]] * (len(rows) + 1 - len(case.met))]
    parts = {"clean images": batches * draws * paces.score(full)}
    if suite.budget is not None:
        parts["choosing"] = choosing(case, paces)
    for row, before, after in zip(rows, met, met[1:], strict=False):
        parts[row.name] = batches * (
            row_seconds(row, full * before, full * after, paces, case.noisy)
            + draws * paces.score(full * before)
        )
    modes = len({row.gradient for row in rows if not is_blind(row)})
    parts["checks"] = CHECKS * modes * paces.step(min(DIAGNOSED, case.images))
    return parts


def row_seconds(row: AttackSpec, before: float, after: float, paces: Paces, noisy: bool) -> float:
    """Seconds of a row on a batch of which it meets some images and leaves others."""
    if is_blind(row):  # an image that falls is asked no more
        pace = paces.query if row.implementation == OWN else paces.score
        return row_passes(row) * pace((before + after) / 2)
    return row_passes(row) * paces.step(before)


def choosing(case: Case, paces: Paces) -> float:
    """Seconds of the choice of an adaptive suite's attacks."""
    images = min(CHOOSING, max(8, case.images // 8))
    effort = RankingEffort.on(images)
    trials = len(registered_modes()) + effort.searched * effort.evaluations
    gradients = effort.steps * (DRAWS if case.noisy else 1) + 1
    return trials * (gradients * paces.step(images) + SCORED[case.noisy] * paces.score(images))


def on_paper(case: Case, paces: Paces) -> dict[str, Any]:
    hours = sum(cost(case, paces).values()) / 3600
    named = {"case": case.name, "suite": case.suite, "batch": case.batch, "met": case.met}
    return {**named, "gpu_hours": round(hours, 1), "dollars": round(hours * PRICE)}


def measured_paces(victim: Victim) -> Paces:
    """The paces of a network on this machine, in seconds of the processor."""
    data = load_dataset("digits", n=max(SIZES))
    few: dict[str, Any] = {"eot_loss": 1, "keep": 1} if victim.stochastic else {}
    step = make_attack("apgd", {"steps": 10, **few})
    query = make_attack("square", {"steps": 30})

    def pace(run: Callable[[torch.Tensor, torch.Tensor], Any], passes: int) -> Pace:
        found = []
        for size in SIZES:
            images, labels = data.images[:size], data.labels[:size]
            run(images, labels)  # compiles
            took = []
            for _ in range(REPEATS):
                began = time.process_time()
                run(images, labels)
                took.append((time.process_time() - began) / passes)
            found.append(float(np.median(took)))
        return Pace(SIZES, tuple(found))

    held = {"eps": 1e-4, "norm": "Linf", "seed": 0}  # no image falls
    return Paces(
        pace(lambda x, y: step(victim, x, y, **held), 10),
        pace(lambda x, y: query(victim, x, y, **held), 30),
        pace(lambda x, y: victim.sample(x, torch.arange(len(x))), 1),
    )


def run(victim: Victim, suite: str, eps: float, images: int, skip: int) -> tuple[Verdict, float]:
    """A run on some digits, and its seconds of the processor."""
    data = load_dataset("digits", n=CHOOSING + skip + images)
    first, mine = slice(CHOOSING), slice(CHOOSING + skip, None)
    asked: dict[str, Any] = {}
    if load_suite(suite).budget is not None:
        asked["calibration"] = data.images[first], data.labels[first]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        verdict = evaluate(
            victim,
            data.images[mine],
            data.labels[mine],
            suite=suite,
            eps=eps,
            out=Path(place) / "run",
            report=False,
            **asked,
        )
    return verdict, time.process_time() - began


def shares_met(verdict: Verdict, images: int) -> tuple[float, ...]:
    """The share of the images that each attack met."""
    return tuple((row.images or 0) / images for row in verdict.attacks)


def check(net: str, suite: str, eps: float, images: int) -> dict[str, Any]:
    """Predicts a run of a packaged network from a pilot and from paces; makes it and compares."""
    victim = adapt(net, pretrained=True).eval()
    pilot, _ = run(victim, suite, eps, PILOT, 0)  # compiles, too
    paces = measured_paces(victim)
    verdict, seconds = run(victim, suite, eps, images, PILOT)
    case = Case(net, images, suite, victim.stochastic, 10, shares_met(pilot, PILOT))
    known = replace(case, met=shares_met(verdict, images))
    of_pilot, of_known = (sum(cost(each, paces).values()) for each in (case, known))
    return {
        "network": net,
        "suite": suite,
        "eps": eps,
        "images": images,
        "measured": round(seconds, 1),
        "predicted": round(of_pilot, 1),
        "error": round(of_pilot / seconds - 1, 2),
        "error_if_survivors_were_known": round(of_known / seconds - 1, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", nargs=2, metavar=("NET", "SUITE"), help="a run to make")
    parser.add_argument("--images", type=int, default=128, help="its images")
    parser.add_argument("--eps", type=float, default=0.1, help="its radius")
    given = parser.parse_args()
    if given.check:
        torch.set_num_threads(1)
        print(json.dumps(check(*given.check, given.eps, given.images)))  # noqa: T201
        return
    cifar = Case("CIFAR-10, gated WRN-16-4", 10_000, "adaptive-large", True, 10, (1, 0.25))
    imagenet = Case("ImageNet, SpikingResformer", 5_000, "adaptive-medium", False, 1000, (1, 0.05))
    for case, paces in ((cifar, WRN), (imagenet, RESFORMER)):
        for batch in (64, 512):
            print(json.dumps(on_paper(replace(case, batch=batch), paces)))  # noqa: T201


if __name__ == "__main__":
    main()
