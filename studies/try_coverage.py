"""What 95 % intervals of `k` tries cover, ours and narrower ones, by simulation.

    python studies/try_coverage.py

Populations and samples are those of `interval_coverage`. An image that is right in `s` of `n` draws
counts `C(s, k) / C(n, k)`. Ours, the same with mid-P limits (share one half), and the percentile
bootstrap over images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.special import comb

sys.path.insert(0, str(Path(__file__).parent))
import interval_coverage
from interval_coverage import covered, histogram, populations

IMAGES, SIZES = (20, 50, 200), ((20, 5), (100, 5), (100, 20))  # draws, tries
FAR = 1_000_000  # images of which the true value is the mean
REPEATS, RESAMPLES = 200, 400
SHARES = {"ours": interval_coverage.UNFAVOURABLE, "mid-P": 0.5}


def bootstrap(
    rng: np.random.Generator, counts: np.ndarray, values: np.ndarray, truth: float
) -> np.ndarray:
    """Whether percentile intervals hold the truth, `[R]`; counts `[R, V]` of each value."""
    images = int(counts[0].sum())
    drawn = rng.multinomial(images, counts / images, size=(RESAMPLES, len(counts)))
    low, high = np.quantile(drawn @ values / images, (0.025, 0.975), axis=0)
    inside: np.ndarray = (low <= truth) & (truth <= high)
    return inside


def rows(images: int) -> dict[str, list[float]]:
    """Coverage of every population and size, by method."""
    found: dict[str, list[float]] = {name: [] for name in (*SHARES, "bootstrap")}
    for number, population in enumerate(populations().values()):
        chances = population(np.random.default_rng(1), FAR)
        for draws, tries in SIZES:
            rng = np.random.default_rng((number, draws, tries))
            truth = float((chances**tries).mean())
            hits = rng.binomial(draws, population(rng, REPEATS * images)).reshape(REPEATS, images)
            counts = histogram(hits, draws + 1)
            values = comb(np.arange(draws + 1), tries) / comb(draws, tries)
            for name, share in SHARES.items():
                interval_coverage.UNFAVOURABLE = share
                inside = covered(counts, values, np.ones(draws + 1), truth)
                found[name].append(float(inside.mean()))
            found["bootstrap"].append(float(bootstrap(rng, counts, values, truth).mean()))
    return found


def main() -> None:
    print("| images | interval | least | median | most | 93 to 97 % | below 93 % | above 97 % |")
    print("|---|---|---|---|---|---|---|---|")
    for images in IMAGES:
        for name, each in rows(images).items():
            x = np.array(each)
            numbers = " | ".join(f"{n:.3f}" for n in (x.min(), np.median(x), x.max()))
            shares = ((x >= 0.93) & (x <= 0.97), x < 0.93, x > 0.97)
            cells = " | ".join(f"{share.mean():.0%}" for share in shares)
            print(f"| {images} | {name} | {numbers} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
