"""How many images and draws a wanted precision needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import norm, t

from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.intervals import LEVEL
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.errors import InputError

MOST_DRAWS = 200


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
    `sqrt(c w / b)` draws are best (Cochran, Sampling Techniques, 10.6), and the images follow from
    Stein's two-stage rule (Annals of Mathematical Statistics 16, 1945).

    Raises:
        InputError: If the precision is not in (0, 0.5) or the pilot is no finished run.
    """
    if not 0 < precision < 0.5:
        raise InputError(f"a precision must lie between 0 and 0.5, got {precision:g}")
    z = norm.ppf((1 + LEVEL) / 2)
    if pilot is None:
        return SampleSize(max(1, math.ceil((z / (2 * precision)) ** 2 - z**2)), None)
    verdict, results = load_run(pilot)
    count, draws = results.worst.shape
    if count < 2:
        raise InputError(f"the pilot '{pilot}' has one image; give it at least 2, better 100")
    shares = (results.worst == results.labels[:, None]).mean(1)
    within = float((shares * (1 - shares)).mean()) * draws / max(draws - 1, 1)
    between = max(float(shares.var(ddof=1)) - within / draws, 0.0)
    best = _draws(verdict, between, within)
    quantile = t.ppf((1 + LEVEL) / 2, count - 1)
    images = quantile**2 * (between + within / (best or 1)) / precision**2
    least = z**2 / (2 * precision) - z**2  # where all images agree
    return SampleSize(max(1, math.ceil(max(images, least))), best)


def _draws(verdict: Verdict, between: float, within: float) -> int | None:
    """The best number of report draws; None for a victim without noise."""
    if not verdict.stochastic:
        return None
    passes = sum(row.forwards + 2 * row.backwards for row in verdict.attacks)
    cost = passes / verdict.data["n"] / (len(verdict.attacks) + 1)
    if within == 0:
        return 1
    best = math.sqrt(cost * within / between) if between else MOST_DRAWS
    return max(1, min(MOST_DRAWS, round(best)))
