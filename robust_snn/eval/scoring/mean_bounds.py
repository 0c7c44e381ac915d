"""Limits for the mean of numbers between two bounds, whatever their distribution.

The images of a run are a sample, and an image that it lacks may be unlike all others: where most
waver a little and few are lost, a sample without a lost one shows no sign of them. So an image is
added that was never seen, at the lower bound for one limit and at the upper for the other, and all
are weighted at random (Gaffke, Journal of Statistical Planning and Inference 135, 2005;
Learned-Miller and Thomas, 2020):

    M = sum_i D_i x_i + D_0 e,   D ~ Dirichlet(1, ..., 1)

Limits are quantiles of M. For zeros and ones they are Clopper and Pearson's with `e` at the
unfavourable bound, and mid-P limits with `e` at each bound half of the time; `UNFAVOURABLE` lies
between. No proof is known beyond zeros and ones; `studies/interval_coverage.py` simulates what they
cover.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

TAIL = 0.025  # beyond each limit of a 95 % interval
UNFAVOURABLE = 0.7
NEGLIGIBLE = 1e-10


def mean_limits(
    values: np.ndarray, weights: np.ndarray, low: float = 0.0, high: float = 1.0
) -> tuple[float, float]:
    """95 % limits for the mean of a quantity in [`low`, `high`], or for a ratio.

    Args:
        values: Of the sample, `[N]`; of a ratio, numerator by denominator of each image.
        weights: Of every value, `[N]`: 1, or for a ratio its denominator over the largest one.
    """
    if not len(values):
        return low, high
    rows, counts = np.unique(np.stack([values, weights], 1), axis=0, return_counts=True)

    def below(c: float, favour_low: float) -> float:
        ends = (_probability(rows, counts, c, end) for end in (low, high))
        return sum(share * p for share, p in zip((favour_low, 1 - favour_low), ends, strict=True))

    lower = _root(lambda c: below(c, UNFAVOURABLE) - TAIL, low, high)
    upper = _root(lambda c: below(c, 1 - UNFAVOURABLE) - (1 - TAIL), low, high)
    return lower, upper


def p_value(
    values: np.ndarray, weights: np.ndarray, mean: float, low: float = 0.0, high: float = 1.0
) -> float:
    """One less the confidence of the widest interval that does not hold `mean`."""
    rows, counts = np.unique(np.stack([values, weights], 1), axis=0, return_counts=True)
    at_low, at_high = (_probability(rows, counts, mean, end) for end in (low, high))
    share = UNFAVOURABLE
    tails = share * at_low + (1 - share) * at_high, (1 - share) * (1 - at_low)
    return float(min(1.0, 2 * tails[0], 2 * (tails[1] + share * (1 - at_high))))


def is_beyond(values: np.ndarray, c: float, high: float, size: float, tail: float = TAIL) -> bool:
    """Whether `c` is no less than the upper limit for the mean of `values` in [0, `high`], `[N]`.

    Args:
        size: How many images they are worth, where not `N`.
        tail: Beyond the limit.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rows = np.stack([distinct, np.ones(len(distinct))], 1)
    at_low, at_high = (
        _probability(rows, counts * (size / len(values)), c, end) for end in (0.0, high)
    )
    return c >= high or (1 - UNFAVOURABLE) * at_low + UNFAVOURABLE * at_high >= 1 - tail


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function crosses zero."""
    if function(low) >= 0:
        return low
    if function(high) <= 0:
        return high
    return float(brentq(function, low, high, xtol=1e-7))


def _probability(rows: np.ndarray, counts: np.ndarray, c: float, end: float) -> float:
    """`P(M <= c)` with the unseen image at `end`: that a sum of exponentials is not positive.

    By its characteristic function (Gil-Pelaez, Biometrika 38, 1951), over a logarithmic axis, where
    the trapezoidal rule converges exponentially.
    """
    size = np.append((rows[:, 0] - c) * rows[:, 1], end - c)
    times = np.append(counts, 1.0)
    size, times = size[size != 0], times[size != 0]
    if not len(size) or size.max() < 0:
        return 1.0
    if size.min() > 0:
        return 0.0
    deviation = np.sqrt((times * size**2).sum())
    if abs((times * size).sum()) > 9 * deviation:
        return float((times * size).sum() < 0)
    start = np.log(1e-8 / (times * np.abs(size)).sum())
    coarse = np.arange(start, np.log(1e9 / np.abs(size).max()), 0.25)
    turns = np.exp(coarse)[:, None] * size
    matters = np.exp(-0.5 * np.log1p(turns**2) @ times) > NEGLIGIBLE
    rate = np.abs((turns / (1 + turns**2)) @ times)[matters].max()
    nodes = np.arange(start, coarse[matters][-1] + 0.25, min(0.1, 1 / max(rate, 1e-9)))
    turns = np.exp(nodes)[:, None] * size
    phase, decay = np.arctan(turns) @ times, -0.5 * np.log1p(turns**2) @ times
    step = nodes[1] - nodes[0]
    return float(np.clip(0.5 - (np.exp(decay) * np.sin(phase)).sum() * step / np.pi, 0, 1))
