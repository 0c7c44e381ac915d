"""How often a run that a pilot planned is as precise as `evaluate --precision --pilot` was asked.

    python studies/pilot_precision.py --repeats 200

A pilot is drawn from a population of images, the size that it asks for is drawn from the same
population, and half of the width of that run's 95 % interval is held against the wanted precision.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from interval_coverage import populations

from robust_snn.eval.scoring.mean_bounds import mean_limits
from robust_snn.eval.scoring.sample_size import SampleSize, size_after

# Images and draws of pilots, and the cost of attacking an image in draws: None without noise.
PILOTS = ((20, 1, None), (100, 1, None), (300, 1, None), (20, 10, 50.0), (100, 20, 100.0))
PRECISIONS = (0.03, 0.05, 0.08)
SLACK = 1e-6  # limits are known to 1e-7


@cache
def planned(pilot: tuple[int, ...], draws: int, precision: float, cost: float | None) -> SampleSize:
    """The size after a pilot of which so many images were right in 0, 1, ... draws."""
    shares = np.repeat(np.arange(draws + 1) / draws, pilot)
    return size_after(shares, draws, precision, cost)


@cache
def half_width(run: tuple[int, ...]) -> float:
    """Of the interval of a run of which so many images were right in 0, 1, ... draws."""
    draws = len(run) - 1
    shares = np.repeat(np.arange(draws + 1) / draws, run)
    low, high = mean_limits(shares, np.ones(len(shares)))
    return (high - low) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    print("| pilot | precision | least | 10 % | median | images |\n|---|---|---|---|---|---|")
    for (images, draws, cost), precision in product(PILOTS, PRECISIONS):
        reached, asked = [], []
        for population in populations().values():
            rng, met = np.random.default_rng(0), 0
            for _ in range(repeats):
                pilot = np.bincount(
                    rng.binomial(draws, population(rng, images)), minlength=draws + 1
                )
                size = planned(tuple(pilot), draws, precision, cost)
                each = size.draws or 1
                run = np.bincount(
                    rng.binomial(each, population(rng, size.images)), minlength=each + 1
                )
                met += half_width(tuple(run)) <= precision + SLACK
                asked.append(size.images)
            reached.append(met / repeats)
        shares = " | ".join(f"{share:.3f}" for share in np.quantile(reached, (0, 0.1, 0.5)))
        what = f"{images} images" + (f", {draws} draws" if cost else "")
        print(f"| {what} | {precision} | {shares} | {np.median(asked):.0f} |", flush=True)


if __name__ == "__main__":
    main()
