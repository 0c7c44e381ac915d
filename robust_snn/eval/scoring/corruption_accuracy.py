"""Accuracy and loss under random corruptions, over networks that were trained alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t
from torch import Tensor
from torch.nn import functional as F

from robust_snn.eval.scoring import intervals
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim
from robust_snn.victim.scoring import scoring_logits


@dataclass(frozen=True)
class CorruptionAccuracy:
    """Accuracy and cross entropy over images and draws, each with a 95 % interval over images.

    Attributes:
        accuracy: Mean over networks, images and draws.
        accuracy_ci: Its interval.
        loss: Mean cross entropy.
        loss_ci: Its interval.
        each: Accuracy of every network.
    """

    accuracy: float
    accuracy_ci: tuple[float, float]
    loss: float
    loss_ci: tuple[float, float]
    each: tuple[float, ...]


def corruption_accuracy(
    victims: Sequence[Victim],
    images: Tensor,
    labels: Tensor,
    *,
    draws: int = 20,
    batch_size: int = 64,
) -> CorruptionAccuracy:
    """Mean accuracy and loss of networks trained alike, corrupted or not.

    Args:
        victims: The networks; `Corrupted(victim, damage)` for a corrupted one.
        images: `[N, ...]`.
        labels: `[N]`.
        draws: Draws of the noise and of the corruption.
        batch_size: Images that pass together.
    """
    right, losses = [], []
    for ids in torch.arange(len(images)).split(batch_size):
        x, y = images[ids], labels[ids].cpu()
        logits = [
            scoring_logits(victim, x.to(device_of(victim)), ids, draw, "report").cpu()
            for victim in victims
            for draw in range(draws)
        ]
        right.append(torch.stack([z.argmax(1) == y for z in logits], 1))
        each = [F.cross_entropy(z, y, reduction="none") for z in logits]
        losses.append(torch.stack(each, 1).mean(1))
    correct, loss = torch.cat(right).numpy(), torch.cat(losses).double().numpy()
    accuracy, interval = intervals.accuracy_estimate(correct)
    margin = np.inf  # of one image, which says nothing of others
    if len(loss) > 1:
        margin = float(t.ppf(0.975, len(loss) - 1) * np.std(loss, ddof=1) / len(loss) ** 0.5)
    mean = float(loss.mean())
    by_net = tuple(correct.reshape(len(loss), len(victims), draws).mean((0, 2)).tolist())
    return CorruptionAccuracy(accuracy, interval, mean, (mean - margin, mean + margin), by_net)
