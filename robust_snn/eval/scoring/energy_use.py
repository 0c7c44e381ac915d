"""Joules per inference, clean and under every attack: a part of the verdict of energy suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor

from robust_snn.metrics import image_costs
from robust_snn.victim import Victim

RESAMPLES = 2000
DRAWS = 5  # of a noisy network, whose costs vary little
TOGETHER = 16  # images that pass together: a record holds the spikes of all layers


@dataclass(frozen=True)
class RowEnergy:
    """Mean costs of an inference on one version of every image.

    Attributes:
        name: The attack; `none` for the clean images.
        joules: Per inference.
        ci: Their 95 % interval, a bootstrap over images; of one image, which says nothing of
            others, its own costs.
        spike_operations: Per inference.
        steps: Time steps that the network read.
        factor: Joules over those of the clean images; None where these cost none, as recordings
            without an event may.
        factor_ci: Its 95 % interval, over the same images; None where too few of the clean ones
            cost anything.
    """

    name: str
    joules: float
    ci: tuple[float, float]
    spike_operations: float
    steps: float
    factor: float | None
    factor_ci: tuple[float, float] | None


@dataclass(frozen=True)
class EnergyUse:
    """What inferences cost; the first row is of the clean images.

    Attributes:
        formula: How joules follow from operations.
        rows: Clean images, then every attack of the suite.
    """

    formula: str
    rows: tuple[RowEnergy, ...]


def measured_costs(judge: Victim, images: Tensor, ids: Tensor) -> np.ndarray:
    """Joules, spike operations and steps of images `[B, C, H, W]`, over draws, `[B, 3]`.

    Args:
        judge: The victim that scores.
        images: Where it is.
        ids: Index of every image in the evaluated set, `[B]`.
    """
    draws, parts = DRAWS if judge.stochastic else 1, []
    for x, some in zip(images.split(TOGETHER), ids.split(TOGETHER), strict=True):
        each = [image_costs(judge, x, some, draw) for draw in range(draws)]
        means = [torch.stack([c[part].double() for c in each]).mean(0) for part in range(3)]
        means[0] = means[0] * 1e-12
        parts.append(torch.stack(means, 1).cpu())
    return torch.cat(parts).numpy()


def row_energy(name: str, costs: np.ndarray, clean: np.ndarray, seed: int) -> RowEnergy:
    """Means and intervals.

    Args:
        name: The attack.
        costs: Joules, spike operations and steps of every image, `[N, 3]`.
        clean: The same of the clean images.
        seed: Seed of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    at = rng.integers(0, len(costs), (RESAMPLES, len(costs)))
    joules, before = costs[:, 0][at].mean(1), clean[:, 0][at].mean(1)
    mean, usual = float(costs[:, 0].mean()), float(clean[:, 0].mean())
    factor = mean / usual if usual else None
    return RowEnergy(
        name,
        mean,
        _limits(joules, mean, len(costs)),
        float(costs[:, 1].mean()),
        float(costs[:, 2].mean()),
        factor,
        None
        if factor is None or not before.all()
        else _limits(joules / before, factor, len(costs)),
    )


def read_energy(tree: Mapping[str, Any]) -> EnergyUse:
    """Reads what a verdict holds of it, once it is checked."""
    rows = []
    for row in tree["rows"]:
        limits = {key: row[key] for key in ("ci", "factor_ci")}
        pairs = {key: None if pair is None else tuple(pair) for key, pair in limits.items()}
        rows.append(RowEnergy(**{**row, **pairs}))
    return EnergyUse(tree["formula"], tuple(rows))


def _limits(samples: np.ndarray, value: float, images: int) -> tuple[float, float]:
    """95 % limits from a bootstrap, at quantiles that make up for how narrow few images make it.

    They are those of Hesterberg's expanded percentile interval (The American Statistician 69,
    2015), which for normal costs is Student's.
    """
    tail = 0.0
    if images > 1:
        tail = float(norm.cdf(-((images / (images - 1)) ** 0.5) * t.ppf(0.975, images - 1)))
    low, high = np.quantile(samples, [tail, 1 - tail])
    return min(float(low), value), max(float(high), value)
