"""What attacks share that change binary event frames, one recording at a time."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.base import Attack
from robust_snn.attacks.events.event_frames import check_binary, check_budget, check_only
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.problem import AttackInputs
from robust_snn.utils.values import whole
from robust_snn.victim import Victim

BATCH = 128  # frames that pass together
TIE = 1e-30  # lead of an answer over one that ties with it


@dataclass(frozen=True, kw_only=True)
class RecordingAttack(Attack):
    """Base of attacks that choose the changes of every recording by itself.

    A noisy victim answers under frozen noise, so that flips are compared under the same draws.

    Attributes:
        steps: The effort for a recording.
    """

    norms = ("L0",)
    steps: int

    def __post_init__(self) -> None:
        whole(self.steps, "steps", 1)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        check_budget(self.name, eps)
        check_binary(self.name, images)

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        victim, images = inputs.victim, inputs.images
        if victim.stochastic and victim.noise == "fresh":
            victim = victim.replace(noise="frozen", cost=victim.cost)
        adversarial, success = images.clone(), torch.zeros(len(images), dtype=torch.bool)
        for row, (clean, label) in enumerate(zip(images, inputs.labels, strict=True)):
            rng = ImageRng(inputs.seed, inputs.ids[row : row + 1], images)
            made = self.flipped(victim, clean, label, rng, int(inputs.eps))
            adversarial[row], success[row] = made
        return adversarial, success

    @abstractmethod
    def flipped(
        self, victim: Victim, clean: Tensor, label: Tensor, rng: ImageRng, budget: int
    ) -> tuple[Tensor, bool]:
        """A recording `[T, C, H, W]` with at most `budget` changes, and whether it misleads."""


@dataclass(frozen=True, kw_only=True)
class RecordingFlips(RecordingAttack):
    """Base of those that flip entries.

    Attributes:
        only: `"all"` flips, `"insertions"` of events or their `"deletions"`.
    """

    only: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_only(self.name, self.only)
