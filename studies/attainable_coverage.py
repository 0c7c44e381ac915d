"""What 95 % intervals of any method must cover, where images are always or never right.

    python studies/attainable_coverage.py

The number of right images is one of 0, 1, ... n, so an interval holds an accuracy p for some of
them, and covers the sum of their chances. Of all ranges of numbers, how near does a sum come to
95 % from above 93 %? Then what our intervals, Wilson's and Clopper and Pearson's cover, exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binom, binomtest

from robust_snn.eval.scoring.intervals import fraction

IMAGES = (5, 10, 20, 50, 200)
ACCURACIES = np.arange(1, 500) / 1000  # those above one half are the same
LEAST, NARROW = 0.93, (0.94, 0.97)


def sums_of_ranges(chances: np.ndarray) -> np.ndarray:
    """What every range of numbers covers, `[n (n + 1) / 2]`."""
    below = np.concatenate([[0.0], np.cumsum(chances)])
    between = below[None, 1:] - below[:-1, None]
    return between[np.triu_indices(len(chances))]


def limits(images: int, method: str) -> np.ndarray:
    """The intervals after 0, 1, ... right images, `[n + 1, 2]`."""
    if method == "ours":
        found = [fraction(np.arange(images) < k, np.ones(images)).ci for k in range(images + 1)]
    else:
        found = [
            tuple(binomtest(k, images).proportion_ci(method=method))[:2] for k in range(images + 1)
        ]
    return np.array(found)


def coverage(images: int, method: str) -> np.ndarray:
    """Exact, at every accuracy."""
    low, high = limits(images, method).T
    chances = [binom.pmf(np.arange(images + 1), images, p) for p in ACCURACIES]
    holds = [(low <= p) & (p <= high) for p in ACCURACIES]
    return np.array([c[h].sum() for c, h in zip(chances, holds, strict=True)])


def main() -> None:
    print("| images | 94-97 % impossible at | least that any covers | ours | Wilson's | exact |")
    print("|---|---|---|---|---|---|")
    for images in IMAGES:
        sums = [sums_of_ranges(binom.pmf(np.arange(images + 1), images, p)) for p in ACCURACIES]
        possible = [((s >= NARROW[0]) & (s <= NARROW[1])).any() for s in sums]
        least = np.array([s[s >= LEAST].min() for s in sums])
        found = [least, *(coverage(images, how) for how in ("ours", "wilson", "exact"))]
        cells = (f"{x.min():.3f}, {x.mean():.3f}, {(x > NARROW[1]).mean():.0%}" for x in found)
        print(f"| {images} | {1 - np.mean(possible):.0%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
