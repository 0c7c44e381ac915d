"""Gradient-to-spike: the gradient becomes ternary by chance, so that frames stay binary."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robust_snn.attacks.events.flips import BinaryFrameAttack, largest_of_recording
from robust_snn.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class G2S(BinaryFrameAttack):
    """Flips entries with the chance that the size of their gradient gives (Liang et al., 2021).

    A step adds the sign of the gradient to entries drawn with a chance of its size over its largest
    entry, and cuts what leaves 0 and 1. Where the gradient is zero, random entries flip: the
    paper's restricted spike flipper. The paper has no budget; here the `eps` changes remain whose
    gradients were the largest. It is a baseline: `event-pgd` adds gradients up and finds more.

    Attributes:
        steps: Gradients per start.
    """

    name = "g2s"

    def run(self, problem: Problem) -> None:
        clean, x = problem.images, problem.images
        use = torch.zeros_like(clean)
        for step in range(self.steps):
            gradient = problem.loss_gradient(x).gradient
            chance = problem.rng.uniform("ternary", problem.start, step).abs()
            ternary = gradient.sign() * (chance < gradient.abs())
            moved = (x + ternary).clamp(0, 1)
            use = torch.where(ternary != 0, gradient.abs(), use)
            changed = use * (moved != clean)
            x = torch.where(largest_of_recording(changed, int(problem.eps)), moved, clean)
        problem.record(x)
