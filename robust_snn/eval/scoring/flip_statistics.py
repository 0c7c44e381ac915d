"""Statistics of attacks that flip entries, over all recordings and not over successes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_snn.eval.scoring.intervals import Estimate, fraction


@dataclass(frozen=True)
class FlipStatistics:
    """How sparse an attack was.

    Attributes:
        success: Share of all recordings fooled with at most that many flips, by budget, with its
            95 % interval.
        median: Median number of flips over all recordings, failures counting as infinitely many.
        median_of_successes: The number that papers report, which leaves failures out; NaN if there
            was no success.
    """

    success: dict[int, Estimate]
    median: float
    median_of_successes: float


def flip_statistics(
    flips: np.ndarray, fooled: np.ndarray, budgets: Sequence[int] = (200, 800)
) -> FlipStatistics:
    """Statistics of one attack.

    Args:
        flips: Flipped entries per recording, `[N]`.
        fooled: Whether the attack succeeded, `[N]`; recordings that were wrong before belong to
            neither side and should be left out.
        budgets: Numbers of flips at which the share of success is wanted.
    """
    needed = np.where(fooled, flips, np.inf)
    ones = np.ones(len(needed))
    return FlipStatistics(
        {budget: fraction(needed <= budget, ones) for budget in budgets},
        float(np.median(needed)),
        float(np.median(flips[fooled])) if fooled.any() else float("nan"),
    )
