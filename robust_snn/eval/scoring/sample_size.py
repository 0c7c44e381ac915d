"""How many images and draws a wanted precision needs."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.mean_bounds import TAIL, UNFAVOURABLE, is_beyond
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.errors import InputError

MOST_DRAWS = 200
MISSED = 0.05  # of the runs may be wider than was asked
Z = float(norm.ppf(1 - TAIL))


@dataclass(frozen=True)
class SampleSize:
    """How many images and report draws; `draws` is None where the suite's number will do."""

    images: int
    draws: int | None


def needed_size(precision: float, pilot: str | Path | None = None) -> SampleSize:
    """The cheapest size whose 95 % interval of robust accuracy is `precision` to each side.

    Without a pilot nothing is known, and the images must suffice for an accuracy of one half where
    every image is always or never correct. A pilot run says how much images differ (`b`), how much
    the draws of one image differ (`w`), and what an image costs compared to a draw (`c`): then
    `sqrt(c w / b)` draws are best (Cochran, Sampling Techniques, 10.6). The images follow from an
    upper limit of the variance that the run will see, since a pilot may happen to see little of it,
    and the run much: the wanted width is reached in 19 of 20 runs (`studies/pilot_precision.py`).

    Raises:
        InputError: If the precision is not in (0, 0.5) or the pilot is no finished run.
    """
    if not 0 < precision < 0.5:
        raise InputError(f"a precision must lie between 0 and 0.5, got {precision:g}")
    if pilot is None:
        return SampleSize(_images(precision, 0.25), None)
    verdict, results = load_run(pilot)
    count, draws = results.worst.shape
    if count < 2:
        raise InputError(f"the pilot '{pilot}' has one image; give it at least 2, better 100")
    shares = (results.worst == results.labels[:, None]).mean(1)
    return size_after(shares, draws, precision, _draw_cost(verdict))


def size_after(
    shares: np.ndarray, draws: int, precision: float, draw_cost: float | None
) -> SampleSize:
    """The size that the images of a pilot ask for.

    Args:
        shares: Of correct draws, `[N]`.
        draws: Of every image of the pilot.
        precision: Half of the wanted width.
        draw_cost: What attacking an image costs, in report draws; None for a victim without noise.
    """
    within = float((shares * (1 - shares)).mean()) * draws / max(draws - 1, 1)
    between = max(float(shares.var(ddof=1)) - within / draws, 0.0)
    best = None if draw_cost is None else _draws(draw_cost, between, within)
    mean, pilot = float(shares.mean()), len(shares)
    squares, most = (shares - mean) ** 2, max(mean, 1 - mean) ** 2
    more = within / (best or 1) - within / draws  # variance that fewer draws add

    def enough(images: int) -> bool:
        both = pilot * images / (pilot + images)  # the chance of the pilot and that of the run
        allowed = _variance(precision, images) - more
        return allowed > 0 and is_beyond(squares, allowed, most, both, MISSED)

    sizes = range(_images(precision, max(more, 0.0)), _images(precision, 0.25))
    return SampleSize(sizes.start + bisect.bisect_left(sizes, True, key=enough), best)


def _images(precision: float, variance: float) -> int:
    """Images for an interval of that precision, where their shares have that variance.

    The half width is about `z sqrt(variance / n) + UNFAVOURABLE / n`, and where all images agree
    half of what an image that nobody has seen adds on one side.
    """
    root = Z * math.sqrt(variance)
    enough = ((root + math.sqrt(root**2 + 4 * precision * UNFAVOURABLE)) / (2 * precision)) ** 2
    agreeing = -math.log(TAIL / UNFAVOURABLE) / (2 * precision)
    return max(1, math.ceil(max(enough, agreeing)))


def _variance(precision: float, images: int) -> float:
    """The variance of shares for which so many images suffice."""
    return images * (max(precision - UNFAVOURABLE / images, 0.0) / Z) ** 2


def _draw_cost(verdict: Verdict) -> float | None:
    """What attacking an image costs, in report draws; None for a victim without noise."""
    if not verdict.stochastic:
        return None
    passes = sum(row.forwards + 2 * row.backwards for row in verdict.attacks)
    return passes / verdict.data["n"] / (len(verdict.attacks) + 1)


def _draws(cost: float, between: float, within: float) -> int:
    """The best number of report draws."""
    if within == 0:
        return 1
    best = math.sqrt(cost * within / between) if between else MOST_DRAWS
    return max(1, min(MOST_DRAWS, round(best)))
