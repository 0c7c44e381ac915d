"""What a larger budget would break, on curves whose continuation is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robust_snn.eval.scoring.larger_budget import larger_budget

PASSES = (60, 300, 200, 300, 300, 900, 1800, 5000)  # per image that is left
NEVER = 99.0


def mixed(rng: np.random.Generator, n: int, immune: float, mean: float, width: float) -> np.ndarray:
    return np.where(rng.random(n) < immune, NEVER, rng.normal(mean, width, n))


# the logarithms of the budgets that break images
POPULATIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "soon": lambda rng, n: rng.normal(1.0, 0.3, n),
    "in between": lambda rng, n: rng.normal(2.0, 1.0, n),
    "wide": lambda rng, n: rng.normal(2.5, 2.0, n),
    "late": lambda rng, n: rng.normal(4.0, 0.5, n),
    "some never": lambda rng, n: mixed(rng, n, 0.4, 1.5, 0.7),
    "most never": lambda rng, n: mixed(rng, n, 0.9, 2.5, 1.0),
    "evenly": lambda rng, n: rng.uniform(0, 8, n),
    "by luck": lambda rng, n: np.log10(30.0 * rng.geometric(rng.beta(0.3, 3, n).clip(1e-9))),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("images", [50, 400])
def test_the_interval_holds_the_truth(population: str, images: int) -> None:
    rng, spent, held = np.random.default_rng(7), np.cumsum(PASSES), []
    for _ in range(40):
        needed = POPULATIONS[population](rng, images)
        left = [1.0, *((needed > np.log10(1 + c)).mean() for c in spent)]
        passes = [p * before * images for p, before in zip(PASSES, left, strict=False)]
        found = larger_budget(left, passes, images)
        end = np.log10(1 + spent[-1])
        truth = ((needed > end) & (needed <= end + 1)).mean()
        low, high = found.ci
        held.append(low - 1e-9 <= truth <= high + 1e-9)
        assert low <= found.breaks <= high or found.breaks - high < 0.02
        assert high <= left[-1] + 1e-9
    assert np.mean(held) >= 0.9


def test_nothing_left_and_nothing_found() -> None:
    assert larger_budget([0.9, 0.0], [100], 50).ci == (0.0, 0.0)
    assert larger_budget([0.0, 0.0], [0], 50).breaks == 0.0
    quiet = larger_budget([0.9, 0.9, 0.9], [5_000, 50_000], 100)
    assert quiet.ci[0] == 0 and 0.01 <= quiet.ci[1] <= 0.06  # three in a hundred go unseen
    assert larger_budget([0.9, 0.9, 0.9], [5_000, 50_000], 1000).ci[1] < 0.006
