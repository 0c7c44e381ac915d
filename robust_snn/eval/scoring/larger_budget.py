"""How much a larger budget of attacks would still break, told from what the last of them broke.

What counts is how many images break per tenfold budget, and how that number changes from one
tenfold to the next: it rises while most images are yet to break, and sinks ever faster towards the
end. The interval reaches from a decline that goes on as it bends, and breaks no larger share of
what is left than the last tenfold did, to no decline at all, or to the rise of late; with the
uncertainty of the counts in both. It knows nothing of attacks of another kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FACTOR = 10
SAMPLES = 4000
PRIOR = 0.5  # of a count (Jeffreys): nothing broken does not mean that nothing can be


@dataclass(frozen=True)
class LargerBudget:
    """What a larger budget is expected to break.

    Attributes:
        factor: How much larger, beside all that the attacks of the run have spent.
        breaks: Expected share of all images.
        ci: Its 95 % interval.
    """

    factor: int
    breaks: float
    ci: tuple[float, float]


def larger_budget(left: Sequence[float], passes: Sequence[float], images: int) -> LargerBudget:
    """The expected loss of accuracy under a ten times larger budget.

    Args:
        left: Accuracy without an attack and after each attack in turn, `[R + 1]`.
        passes: Passes of each attack over all images, `[R]`.
        images: Number of images.
    """
    right = images * np.minimum.accumulate(np.asarray(left, float))
    survivors, met = right[-1], right[:-1] >= 0.5
    if survivors < 0.5 or not met.any():
        return LargerBudget(FACTOR, 0.0, (0.0, 0.0))
    spent = np.cumsum(np.asarray(passes, float)[met] / right[:-1][met])
    at, broken = np.log10(1 + np.r_[0, spent]), right[0] - np.r_[right[:1], right[1:][met]]
    last, before, earlier = -np.diff(np.interp(at[-1] - np.arange(4), at, broken))
    generator = np.random.default_rng(0)

    def rate(count: float) -> np.ndarray:
        """Samples of the expected number of breaks, of one that was counted."""
        return generator.gamma(count + PRIOR, size=SAMPLES)

    now, once, first = rate(last), rate(before), rate(earlier)
    trend, bend = now / once, (now / once) / (once / first)
    sinking = now * np.minimum(1, trend) * np.minimum(1, bend)
    per_image = now / max(right[0] - (broken[-1] - last), 1.0)  # of those that were left before
    sinking = np.minimum(sinking, survivors * per_image)
    rising = now * max(1.0, float(np.median(trend)))
    low, high = (np.minimum(generator.poisson(r), survivors) / images for r in (sinking, rising))
    return LargerBudget(
        FACTOR,
        float((low.mean() + high.mean()) / 2),
        (float(np.quantile(low, 0.025)), float(np.quantile(high, 0.975))),
    )
