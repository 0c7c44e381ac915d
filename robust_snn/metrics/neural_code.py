"""The neural code under repeated trials of one stimulus (NSNN, 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError


def fano_factor(counts: Tensor) -> Tensor:
    """Variance over mean of spike counts over trials, with the unbiased variance.

    Args:
        counts: Spike counts `[K, ...]` of K trials.

    Returns:
        `[...]`, NaN for a neuron that never fires.
    """
    _check_trials(counts)
    mean = counts.mean(0)
    return torch.where(mean > 0, counts.var(0) / mean, torch.nan)


def prediction_similarity(predictions: Tensor) -> Tensor:
    """Mean cosine similarity between the predictions of every two trials.

    Args:
        predictions: Logits or probabilities `[K, B, C]` of K trials.

    Returns:
        `[B]`, in [-1, 1].
    """
    _check_trials(predictions)
    trials = len(predictions)
    unit = predictions / predictions.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    together = unit.sum(0).square().sum(-1)  # all pairs, and each trial with itself
    itself = unit.square().sum((0, -1))
    return (together - itself) / (trials * (trials - 1))


def psth(spikes: Tensor) -> Tensor:
    """Peristimulus time histogram: the firing probability at every step over trials.

    Args:
        spikes: `[K, T, ...]`.

    Returns:
        `[T, ...]`.
    """
    return spikes.mean(0)


def jpsth(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised joint peristimulus time histogram of two neurons.

    Entry `(u, v)` is Pearson's correlation over trials between the first neuron at step u and the
    second at step v; the diagonal is their synchrony.

    Args:
        first: Spikes `[K, T]`.
        second: Spikes `[K, T]`.

    Returns:
        The histogram `[T, T]`, 0 where it is not defined, and a mask `[T, T]` of where it is.
    """
    _check_trials(first)
    a, b = first - first.mean(0), second - second.mean(0)
    scale = torch.outer(a.square().mean(0), b.square().mean(0)).sqrt()
    defined = scale > 0
    joint = torch.einsum("ku,kv->uv", a, b) / len(first)
    return torch.where(defined, joint / scale.where(defined, torch.ones_like(scale)), 0.0), defined


def jpsth_of_pairs(spikes: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised joint peristimulus time histograms of all pairs of neurons.

    Args:
        spikes: `[K, T, N]`.

    Returns:
        The histograms `[N, N, T, T]`, 0 where they are not defined, and a mask of where they are.
    """
    steps, neurons = spikes.shape[1:]
    rows = spikes.transpose(1, 2).flatten(1)  # a pair of bins of two neurons is a pair of columns
    joint, defined = (x.view(neurons, steps, neurons, steps) for x in jpsth(rows, rows))
    return joint.transpose(1, 2), defined.transpose(1, 2)


def correlation(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Pearson's correlation of two measures over samples, and its two-sided p-value.

    Samples where either is NaN are left out. Both numbers are NaN where fewer than 3 samples are
    left, or a measure is the same for all.

    Args:
        first: `[B]`.
        second: `[B]`.
    """
    from scipy.stats import pearsonr  # slow to import, needed here only

    both = ~(first.isnan() | second.isnan())
    x, y = first[both].double().cpu().numpy(), second[both].double().cpu().numpy()
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return math.nan, math.nan
    r, p = pearsonr(x, y)
    return float(r), float(p)


def _check_trials(trials: Tensor) -> None:
    if len(trials) < 2:
        raise InputError(f"variation over trials needs at least 2 trials, got {len(trials)}")
