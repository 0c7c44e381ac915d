"""What the 95 % intervals of verdicts cover, by simulation over many kinds of networks.

    python studies/interval_coverage.py --out studies/interval_coverage.csv

A population says how likely an image is classified correctly. From 5 images and one draw on,
samples are drawn and the share of the intervals that hold the true mean is counted: of accuracies,
of the accuracy under the worst of three attacks that other draws chose, of paired differences, and
of success rates. Widths are given beside those of Wilson's interval on images.

Where a sample cannot tell that an image is missing that is unlike all others, an interval that
covers in the worst case covers more than 95 % elsewhere: those of images that are all alike are too
wide.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from robust_snn.eval.scoring.intervals import fraction
from robust_snn.eval.scoring.mean_bounds import TAIL, UNFAVOURABLE

Population = Callable[[np.random.Generator, int], np.ndarray]  # chances of n images
IMAGES, DRAWS = (5, 10, 20, 50, 200), (1, 5, 20)
FAR = 4_000_000  # images of which the true value is the mean
SELECT, ATTACKS = 5, 3  # draws that choose the worst attack, and how many there are


def populations() -> dict[str, Population]:
    """Chances of images: all or none, alike, spread, and mixtures with images that are lost."""

    def mixture(a: float, b: float, lost: float) -> Population:
        return lambda rng, n: np.where(rng.random(n) < lost, 0.0, rng.beta(a, b, n))

    found: dict[str, Population] = {
        "spread": lambda rng, n: rng.beta(2, 2, n),
        "split": lambda rng, n: rng.beta(0.3, 0.6, n),
        "near the edge": lambda rng, n: rng.beta(0.05, 0.5, n),
        "mostly broken": lambda rng, n: np.where(rng.random(n) < 0.7, 0.0, rng.random(n)),
    }
    for p in (0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.9, 0.99):
        found[f"always or never, {p}"] = lambda rng, n, p=p: (rng.random(n) < p).astype(float)
    for p in (0.01, 0.4, 0.99):
        found[f"alike, {p}"] = lambda rng, n, p=p: np.full(n, p)
    for lost in (0.005, 0.01, 0.02, 0.05, 0.1):
        for a, b in ((49, 1), (18, 2), (900, 100), (10, 10)):
            found[f"beta({a}, {b}), {lost:.1%} lost"] = mixture(a, b, lost)
    return found


def covered(
    counts: np.ndarray, values: np.ndarray, weights: np.ndarray, truth: float, low: float = 0.0
) -> np.ndarray:
    """Whether the intervals of many samples hold the truth, `[R]`; see `mean_bounds.p_value`.

    Args:
        counts: How often each value is in a sample, `[R, V]`.
        values: `[V]`.
        weights: `[V]`.
        truth: The mean, or ratio, of the population.
        low: Lower bound of the values; the upper one is 1.
    """
    below = []
    for end in (low, 1.0):
        size = np.append((values - truth) * weights, end - truth)
        times = np.hstack([counts, np.ones((len(counts), 1))])
        nodes = np.arange(np.log(1e-7 / times.sum(1).max()), np.log(1e6), 0.1)
        turns = np.exp(nodes) * size[:, None]
        phase, decay = times @ np.arctan(turns), -0.5 * times @ np.log1p(turns**2)
        p = 0.5 - (np.exp(decay) * np.sin(phase)).sum(1) * 0.1 / np.pi
        largest = np.where(times > 0, size, -np.inf).max(1)
        smallest = np.where(times > 0, size, np.inf).min(1)
        below.append(np.where(largest <= 0, 1.0, np.where(smallest >= 0, 0.0, p)))
    share = UNFAVOURABLE
    lower = share * below[0] + (1 - share) * below[1]
    upper = (1 - share) * below[0] + share * below[1]
    inside: np.ndarray = (lower >= TAIL) & (upper <= 1 - TAIL)
    return inside


def histogram(cells: np.ndarray, kinds: int) -> np.ndarray:
    """How often each kind is in every row of `[R, n]`, `[R, kinds]`."""
    return np.stack([(cells == kind).sum(1) for kind in range(kinds)], 1).astype(float)


def under_worst_attack(population: Population) -> Population:
    """Chances of images under the attack that draws of their own chose."""

    def chances(rng: np.random.Generator, n: int) -> np.ndarray:
        each = np.stack([population(rng, n) for _ in range(ATTACKS)])
        chosen = rng.binomial(SELECT, each).argmin(0)
        picked: np.ndarray = each[chosen, np.arange(n)]
        return picked

    return chances


def changed(population: Population, rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Chances under two networks: a tenth of the images get another one."""
    first = population(rng, n)
    return first, np.where(rng.random(n) < 0.1, population(rng, n), first)


class Kind(NamedTuple):
    """A kind of interval: the true value of a population, and whether intervals hold it, `[R]`."""

    truth: Callable[[Population], float]
    covered: Callable[[np.random.Generator, Population, tuple[int, int], int, float], np.ndarray]


def true_accuracy(population: Population) -> float:
    return float(population(np.random.default_rng(1), FAR).mean())


def of_accuracy(
    rng: np.random.Generator,
    population: Population,
    size: tuple[int, int],
    draws: int,
    truth: float,
) -> np.ndarray:
    hits = rng.binomial(draws, population(rng, size[0] * size[1])).reshape(size)
    values = np.arange(draws + 1) / draws
    return covered(histogram(hits, draws + 1), values, np.ones(draws + 1), truth)


def true_difference(population: Population) -> float:
    first, second = changed(population, np.random.default_rng(1), FAR)
    return float((second - first).mean())


def of_difference(
    rng: np.random.Generator,
    population: Population,
    size: tuple[int, int],
    draws: int,
    truth: float,
) -> np.ndarray:
    chances = changed(population, rng, size[0] * size[1])
    a, b = (rng.binomial(draws, chance).reshape(size) for chance in chances)
    values = np.arange(-draws, draws + 1) / draws
    counts = histogram(b - a + draws, len(values))
    return covered(counts, values, np.ones(len(values)), truth, low=-1.0)


def true_success(population: Population) -> float:
    far = np.random.default_rng(1)
    right, kept = far.beta(4, 1, FAR), population(far, FAR)
    return float(1 - (right * kept).mean() / right.mean())


def of_success(
    rng: np.random.Generator,
    population: Population,
    size: tuple[int, int],
    draws: int,
    truth: float,
) -> np.ndarray:
    total = size[0] * size[1]
    trials = rng.binomial(draws, rng.beta(4, 1, total))
    hits = rng.binomial(trials, 1 - population(rng, total))
    denominators = np.repeat(np.arange(1, draws + 1), np.arange(2, draws + 2))
    numerators = np.concatenate([np.arange(d + 1) for d in range(1, draws + 1)])
    cell = np.where(trials > 0, (trials + 2) * (trials - 1) // 2 + hits, -1).reshape(size)
    values, weights = numerators / denominators, denominators / draws
    return covered(histogram(cell, len(values)), values, weights, truth)


KINDS = {
    "accuracy": Kind(true_accuracy, of_accuracy),
    "worst attack": Kind(true_accuracy, of_accuracy),
    "difference": Kind(true_difference, of_difference),
    "success rate": Kind(true_success, of_success),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("studies/interval_coverage.csv"))
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    rows: list[tuple[str, str, int, int, float]] = []
    for (name, plain), (kind, how) in product(populations().items(), KINDS.items()):
        population = under_worst_attack(plain) if kind == "worst attack" else plain
        truth = how.truth(population)
        for images, draws in product(IMAGES, DRAWS):
            if kind == "success rate" and draws > 5:
                continue  # too many pairs of counts
            rng = np.random.default_rng(0)
            found = how.covered(rng, population, (options.repeats, images), draws, truth)
            rows.append((kind, name, images, draws, float(found.mean())))
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["interval", "population", "images", "draws", "coverage"])
        writer.writerows((*row[:4], f"{row[4]:.4f}") for row in rows)
    print(
        "| interval | images | least | 10 % | median | 90 % | most |\n|---|---|---|---|---|---|---|"
    )
    for kind in dict.fromkeys(row[0] for row in rows):
        for images in IMAGES:
            found = [row[4] for row in rows if row[0] == kind and row[2] == images]
            cells = (f"{share:.3f}" for share in np.quantile(found, (0, 0.1, 0.5, 0.9, 1)))
            print(f"| {kind} | {images} | {' | '.join(cells)} |")
    print("\n| images | right | width | Wilson's |\n|---|---|---|---|")
    for images in IMAGES:
        for right in (0, images // 4, images // 2):
            low, high = fraction(np.arange(images) < right, np.ones(images)).ci
            wilson = binomtest(right, images).proportion_ci(method="wilson")
            print(f"| {images} | {right} | {high - low:.3f} | {wilson.high - wilson.low:.3f} |")


if __name__ == "__main__":
    main()
