"""Spike retiming as published: logits over the shifts of every event, projected in every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.retiming import EventMoves, event_value, later
from robust_snn.attacks.problem import Problem

LARGEST = 10.0  # logit of a shift
# The release weighs 20 and 5 to 10 against gradients of any size. Against a gradient whose largest
# entry is 1, and where few events move, these outweigh the loss: all logits sink alike to the
# smallest, and their order is chance. The projection keeps the budgets whatever the weights.
CAPACITY_WEIGHT, BUDGET_WEIGHT = 1.0, 0.1


@dataclass(frozen=True, kw_only=True)
class SoftRetiming(EventMoves):
    """Moves events by soft shifts with the projection in the loop (arXiv 2602.03284, section 4).

    Every entry has a logit for each shift. The network sees frames whose events moved within all
    budgets, and its gradient goes to the expected frames under the softmax of the logits, which
    pay for entries that hold more than their capacity, and for budgets that are overdrawn. Moves
    are ranked by the lead of their logit over that of staying. It is written from the paper's text;
    penalties weigh less than in the release, which it was compared with.

    Attributes:
        alpha: Length of a step of the logits, along the sign of their gradient.
    """

    name = "soft-retiming"
    alpha: float = 1.0

    def run(self, problem: Problem) -> None:
        clean, moves = problem.images, int(problem.eps) // 2
        shifts = [0, *self.offsets(clean)]
        noise = [problem.rng.uniform("shift", problem.start, d) for d in range(len(shifts))]
        logits = torch.stack(noise) / 100
        for _ in range(self.steps):
            gradient = problem.loss_gradient(self._shifted(logits, shifts, clean, moves)).gradient
            with torch.enable_grad():
                leaf = logits.detach().requires_grad_()
                gain = self._gain(leaf, gradient, shifts, clean, max(moves, 1))
                (ascent,) = torch.autograd.grad(gain, leaf)
            logits = (logits + self.alpha * ascent.sign()).clamp(-LARGEST, LARGEST)
        problem.record(self._shifted(logits, shifts, clean, moves))

    def _shifted(self, logits: Tensor, shifts: list[int], clean: Tensor, moves: int) -> Tensor:
        """The frames within all budgets that the logits `[shifts, B, T, ...]` prefer."""
        gains = {d: later(logits[i] - logits[0], d) for i, d in enumerate(shifts) if d}
        return self.moved(gains, clean, moves)

    def _gain(
        self, logits: Tensor, gradient: Tensor, shifts: list[int], clean: Tensor, moves: int
    ) -> Tensor:
        """What the expected frames gain along the gradient, less their penalties, over a batch."""
        event = event_value(clean)
        before, steps = (clean / event).round(), clean.shape[1]
        time = torch.arange(steps, device=clean.device).view(-1, *[1] * (clean.ndim - 2))
        outside = torch.stack([((time + d < 0) | (time + d >= steps)) for d in shifts])
        chances = logits.masked_fill(outside[:, None], -torch.inf).softmax(0) * before
        arrived = [later(chances[i], d) if d else chances[i] for i, d in enumerate(shifts)]
        expected = torch.stack(arrived).sum(0)
        over = (expected - torch.clamp(before, min=round(1 / event))).clamp(min=0)
        moved = (before - chances[0]).flatten(1).sum(1)
        budgets = (moved / moves - 1).clamp(min=0)
        if self.delay is not None:
            sizes = torch.tensor(shifts, device=clean.device).abs().view(-1, 1, 1)
            spent = (sizes * chances.flatten(2)).sum((0, 2))
            budgets = budgets + (spent / self.delay - 1).clamp(min=0)
        gain = (expected * gradient).sum() - CAPACITY_WEIGHT * over.square().sum()
        return gain - BUDGET_WEIGHT * budgets.sum()
