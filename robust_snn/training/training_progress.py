"""How far a training is, and what is known so far, for a progress bar or a listener."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from robust_snn.training.training_folder import Epoch
from robust_snn.utils.share_texts import percent


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is at one moment.

    Attributes:
        epoch: Epoch that runs now, from 1.
        epochs: Number of all epochs.
        done: Finished share of all steps, in [0, 1].
        remaining: Expected seconds that are left; None before the first step.
        last: The last finished epoch.
    """

    epoch: int
    epochs: int
    done: float
    remaining: float | None
    last: Epoch | None

    @property
    def doing(self) -> str:
        """What runs now."""
        return f"epoch {self.epoch} of {self.epochs}"

    @property
    def known(self) -> str:
        """What is known so far, or nothing."""
        return "" if self.last is None else f"test accuracy {percent(self.last.test_accuracy)}"


Listener = Callable[[TrainingProgress], None]


@dataclass
class Clock:
    """Tells a listener how far the training is, at the pace of this process.

    Attributes:
        first: Epochs that were finished when this process began.
        epochs: Number of all epochs.
        steps: Steps per epoch.
        listener: Called with every report.
    """

    first: int
    epochs: int
    steps: int
    listener: Listener

    def __post_init__(self) -> None:
        self.began = time.perf_counter()

    def report(self, epoch: int, last: Epoch | None, step: int) -> None:
        """Reports that `step` steps of an epoch are done."""
        now = epoch - 1 + step / self.steps
        pace = (time.perf_counter() - self.began) / (now - self.first)
        remaining = pace * (self.epochs - now)
        self.listener(TrainingProgress(epoch, self.epochs, now / self.epochs, remaining, last))
