"""95 % intervals for fractions over images and noise draws.

Every quantity reported is a ratio of counts, summed over images: correct draws over draws, correct
votes over images, flipped draws over draws that were correct before. Draws of one image belong
together, so the image is the unit of sampling, and what an image contributes lies between bounds
and is distributed in no known way; `mean_bounds` has limits for the mean of such numbers.

`studies/interval_coverage.py` simulates them, from 5 images and one draw on, with images that are
all alike, lost or in between, and the worst attack chosen by other draws. They cover 93 % or more
throughout: accuracies 99 % in the median over populations at 5 images, 97.5 % at 50 and 96 % at
200. It is more where few images, or images that are all alike, do not rule out one that nobody has
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import comb
from scipy.stats import binomtest

from robust_snn.eval.scoring.mean_bounds import mean_limits, p_value
from robust_snn.eval.scoring.predictions import Predictions

TRIES = (5, 20, 100)  # of an attacker who may ask again; one try is the accuracy


class Estimate(NamedTuple):
    """A fraction and its 95 % interval."""

    value: float
    ci: tuple[float, float]


def fraction(hits: np.ndarray, trials: np.ndarray) -> Estimate:
    """Ratio `sum(hits) / sum(trials)` with images as units.

    Args:
        hits: Counts per image, `[N]`, between 0 and `trials`.
        trials: Counts per image, `[N]`. If all are 0 the ratio is 0, and nothing is known about it.
    """
    hits, trials = np.asarray(hits, float), np.asarray(trials, float)
    total = trials.sum()
    if total == 0:
        return Estimate(0.0, (0.0, 1.0))
    hits, trials = hits[trials > 0], trials[trials > 0]
    limits = mean_limits(hits / trials, trials / trials.max())
    return Estimate(float(hits.sum() / total), limits)


def accuracy_estimate(correct: np.ndarray) -> Estimate:
    """Mean of `correct`, bool `[N, draws]`."""
    return fraction(correct.sum(1), np.full(len(correct), correct.shape[1]))


def vote(predictions: np.ndarray, labels: np.ndarray) -> Estimate:
    """Share of images whose label wins the vote over draws, `[N, draws]`."""
    return fraction(elected(predictions, labels), np.ones(len(labels)))


def right_in_every_try(correct: np.ndarray, tries: int) -> Estimate:
    """Share of images, in expectation, that `tries` calls of fresh noise all classify rightly.

    That is what holds against an attacker who may submit an image so often (Lucas et al., 2023,
    arXiv 2302.13464). Of an image that `s` of `n` draws classify rightly, `C(s, k) / C(n, k)` is
    the share of sets of `k` draws without a wrong one: without bias whatever its chance.

    Args:
        correct: bool `[N, draws]`, whose draws are independent.
        tries: At most `draws`.
    """
    draws = correct.shape[1]
    chances = comb(correct.sum(1), tries) / comb(draws, tries)
    return Estimate(float(chances.mean()), mean_limits(chances, np.ones(len(chances))))


def under_known_noise(predictions: Predictions) -> Estimate:
    """Share of draws in which every version of an image is right, the clean one included.

    An attacker who knows the draw picks a wrong one if there is one. Report draws chose no version,
    and are the same for all, so it is what these versions leave, without bias.
    """
    labels = predictions.labels[:, None]
    right = (predictions.clean == labels) & (predictions.worst == labels)
    return accuracy_estimate(right & (predictions.attacks == labels).all(0))


def elected(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the label wins the vote over draws outright, bool `[N]`; a tie does not count.

    Args:
        predictions: Predicted classes, `[N, draws]`.
        labels: `[N]`.
    """
    classes = int(max(predictions.max(), labels.max())) + 1
    counts = np.stack([(predictions == k).sum(1) for k in range(classes)], axis=1)
    images = np.arange(len(labels))
    right = counts[images, labels].copy()
    counts[images, labels] = -1
    won: np.ndarray = right > counts.max(1)
    return won


def success_rate(before: np.ndarray, after: np.ndarray) -> Estimate:
    """Share of the correct draws that the attack turned wrong under the same noise.

    Args:
        before: Whether the clean images are classified correctly, bool `[N, draws]`.
        after: The same for the attacked images, draw by draw under the same noise.
    """
    return fraction((before & ~after).sum(1), before.sum(1))


def lowest(right: Sequence[np.ndarray]) -> np.ndarray:
    """Share of correct draws in the run that is hardest for each image, `[N]`.

    The lowest of several shares of few draws is lower than any chance behind them, so half of the
    draws choose a run and the others measure, and the reverse. That may choose worse than to take
    one run for all images; the lower of these counts.

    Args:
        right: Whether each draw is right, bool `[N, draws]`, by run.
    """
    shares = [run.mean(1) for run in right]
    if any(run.shape[1] == 1 for run in right):  # one draw of each image: there is nothing to halve
        return np.min(shares, axis=0)
    halves = [np.stack([run[:, start::2].mean(1) for run in right]) for start in (0, 1)]
    images = np.arange(len(shares[0]))
    measured = [other[chosen.argmin(0), images] for chosen, other in (halves, halves[::-1])]
    return min([np.mean(measured, axis=0), *shares], key=lambda of_run: float(of_run.mean()))


def difference(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Mean of `second - first`: shares of correct draws of the same images, `[N]`, under two nets.

    Where few images differ, or none, it keeps its width.
    """
    gaps = np.asarray(second, float) - np.asarray(first, float)
    return Estimate(float(gaps.mean()), mean_limits(gaps, np.ones(len(gaps)), -1.0, 1.0))


def no_difference(first: np.ndarray, second: np.ndarray) -> float:
    """The p-value of no `difference`: below 0.05 where its interval leaves zero."""
    gaps = np.asarray(second, float) - np.asarray(first, float)
    return p_value(gaps, np.ones(len(gaps)), 0.0, -1.0, 1.0)


def holm(p: Sequence[float]) -> list[float]:
    """P-values of several statements that are all to be right, corrected for their number.

    They are Holm's (Scandinavian Journal of Statistics 6, 1979): of many pages that state what is
    at most 0.05 here, at most one in twenty states anything that is not so.
    """
    order = np.argsort(p)
    grown = np.maximum.accumulate(np.arange(len(order), 0, -1) * np.asarray(p, float)[order])
    found = np.empty(len(order))
    found[order] = np.minimum(grown, 1)
    return [float(each) for each in found]


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact p-value that two nets are right equally often, bool `[N]` on the same images."""
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
