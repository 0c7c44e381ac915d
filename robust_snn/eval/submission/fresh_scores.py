"""Scores of a submission's images on fresh noise, a batch at a time: the images may lie on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.lazy_images import Images
from robust_snn.eval.scoring.noise_draws import Score, harder, score
from robust_snn.eval.submission.short_attack import short_attack
from robust_snn.eval.submission.submission_folder import Submission
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim

BATCH = 64


def batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in order, a batch at a time."""
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


@dataclass(frozen=True)
class Scoring:
    """What a submission is scored on.

    Attributes:
        submission: The submission.
        judge: The network, under noise that the submitter could not know.
        images: The evaluated images, `[N, C, H, W]`.
        labels: `[N]`.
    """

    submission: Submission
    judge: Victim
    images: Images
    labels: Tensor

    def clean(self, purpose: str) -> Score:
        """Scores the clean images."""
        return self._all(purpose, lambda images, rows: images)

    def worst(self, purpose: str) -> Score:
        """Scores the worst version of every image."""
        return self._all(purpose, self.submission.worst)

    def attacked(self, predictions: np.ndarray) -> np.ndarray | None:
        """Predictions after a short attack on the images that are still right.

        Args:
            predictions: Those on the worst versions, on the report draws, `[N, draws]`.

        Returns:
            The same, or those on what the attack has made where that is harder; None where no
            attack of ours fits.
        """
        attack = short_attack(self.submission, self.judge, self.images.ndim == 5)
        if attack is None:
            return None
        before, predictions = self.worst("select"), predictions.copy()
        for rows in batches(np.flatnonzero(before.accuracy > 0)):
            at = torch.from_numpy(rows)
            made = attack(*self._placed(self.images[at], at), at)
            now = self._score(made, rows, "select")
            better = harder(now.accuracy, now.margin, before.accuracy[rows], before.margin[rows])
            if better.any():
                report = self._score(made[torch.from_numpy(better)], rows[better], "report")
                predictions[rows[better]] = report.predictions
        return predictions

    def _all(self, purpose: str, version: Callable[[Tensor, np.ndarray], Tensor]) -> Score:
        every = batches(np.arange(len(self.images)))
        return _joined(
            self._score(version(self.images[torch.from_numpy(rows)], rows), rows, purpose)
            for rows in every
        )

    def _score(self, images: Tensor, rows: np.ndarray, purpose: str) -> Score:
        at, draws = torch.from_numpy(rows), self.submission.verdict.draws[purpose]
        images, labels = self._placed(images, at)
        return score(self.judge, images, labels, at.to(images.device), draws=draws, purpose=purpose)

    def _placed(self, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        device = device_of(self.judge)
        return images.to(device), self.labels[rows].to(device)


def _joined(scores: Iterable[Score]) -> Score:
    parts = list(scores)
    return Score(
        *(np.concatenate([getattr(part, key) for part in parts]) for key in Score.__annotations__)
    )
