"""95 % intervals for fractions over images and noise draws.

Every quantity reported is a ratio of counts, summed over images: correct draws over draws, correct
votes over images, flipped draws over draws that were correct before. Draws of one image belong
together, so the image is the unit of sampling: the variance of the ratio comes from how images
differ (which contains the noise of their draws), it says how many independent trials the data are
worth, and Wilson's interval on that many trials has the right coverage and never has width zero.

The effective number lies between the number of images (every image always or never correct) and the
number of draws (images do not differ). Where few images waver, their variance is itself uncertain;
a Student quantile with the matching degrees of freedom then moves it towards the number of images,
as in Korn and Graubard's interval for clustered surveys (Survey Methodology 24, 1998).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, norm, t

LEVEL = 0.95


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
    value = hits.sum() / total
    return Estimate(float(value), _wilson(value, _worth(hits - value * trials, value, trials)))


def accuracy_estimate(correct: np.ndarray) -> Estimate:
    """Mean of `correct`, bool `[N, draws]`."""
    return fraction(correct.sum(1), np.full(len(correct), correct.shape[1]))


def vote(predictions: np.ndarray, labels: np.ndarray) -> Estimate:
    """Share of images whose label wins the vote over draws, `[N, draws]`."""
    return fraction(elected(predictions, labels), np.ones(len(labels)))


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


def _worth(residuals: np.ndarray, value: float, trials: np.ndarray) -> float:
    """How many independent trials the counts are worth."""
    images, total = trials.sum() ** 2 / (trials**2).sum(), trials.sum()
    squares = residuals**2
    if squares.sum() == 0:  # at 0 and 1, images that all agree may still hide one that would not
        return float(images if value in (0, 1) else total)
    wavering = squares.sum() ** 2 / (squares**2).sum()
    worth = value * (1 - value) * total**2 / squares.sum()
    tail = (1 + LEVEL) / 2
    worth *= (norm.ppf(tail) / t.ppf(tail, max(wavering - 1, 1))) ** 2
    return float(np.clip(worth, images, total))


def _wilson(value: float, trials: float) -> tuple[float, float]:
    """Wilson's interval (JASA 22, 1927) for a fraction of `trials`, which need not be whole.

    SciPy has it for whole numbers; the tests compare.
    """
    square = norm.ppf((1 + LEVEL) / 2) ** 2
    centre = (value * trials + square / 2) / (trials + square)
    half = np.sqrt(square * (value * (1 - value) * trials + square / 4)) / (trials + square)
    low = 0.0 if value == 0 else centre - half
    high = 1.0 if value == 1 else centre + half
    return float(low), float(high)


def difference(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Mean of `second - first`: shares of correct draws of the same images, `[N]`, under two nets.

    Student's interval over images, to which two images are added that differ as much as those seen
    do, one each way by halves (Agresti and Min, Statistics in Medicine 24, 2005): where few images
    differ, or none, it keeps its width.
    """
    gaps = np.asarray(second, float) - np.asarray(first, float)
    squares, count = (gaps**2).sum(), len(gaps) + 2
    typical = (gaps**4).sum() / squares if squares > 0 else 1.0
    centre = gaps.sum() / count
    variance = (squares + typical - count * centre**2) / (count - 1)
    half = t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt(variance / count)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(float(gaps.mean()), (float(low), float(high)))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact p-value that two nets are right equally often, bool `[N]` on the same images."""
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
