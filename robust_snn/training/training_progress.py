"""How far a training is, and what it knows so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robust_snn.training.training_folder import Epoch


@dataclass(frozen=True)
class Progress:
    """A moment of a training.

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
    def found(self) -> str:
        """What is known so far, or nothing."""
        return "" if self.last is None else f"test accuracy {self.last.test_accuracy:.1%}"


Listener = Callable[[Progress], None]
