"""Events of a list that happen earlier or later, whatever frames the network makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.retiming import GUIDES
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.problem import Problem
from robust_snn.neurons.event_binning import PRESENT, check_event_lists
from robust_snn.utils.errors import unknown
from robust_snn.utils.values import whole


@dataclass(frozen=True, kw_only=True)
class EventTimes(IterativeAttack):
    """Moves the times of events by gradient ascent through the binning of the network.

    Takes lists of events `[B, 4, E, 1]`, see `robust_snn.neurons.EventBinning`. `eps` is the
    largest move, as a share of the recording's duration; places, polarities and the number of
    events stay. A step goes along the sign of the gradient for every time.

    Attributes:
        steps: Gradients per start.
        events: At most so many events of a recording move, those of the largest summed gradients;
            no limit if None.
        causal: Whether events only come later, as they do for one who can but hold them back.
        guide: `"gradient"`, or `"random"` for moves at random, the hardest of `steps` tries.
    """

    name = "event-times"
    norms = ("Linf",)
    steps: int = 20
    events: int | None = None
    causal: bool = False
    guide: str = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.events is not None:
            whole(self.events, "events", 1)
        if self.guide not in GUIDES:
            raise unknown("guide of event-times", self.guide, GUIDES)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        check_event_lists(images, self.name)

    def run(self, problem: Problem) -> None:
        present = problem.images[:, 3:] > PRESENT
        move, use = torch.zeros_like(problem.images[:, :1]), torch.zeros_like(present.float())
        if problem.start:
            move = problem.eps * problem.rng.uniform("times", problem.start)[:, :1]
        for step in range(self.steps):
            if self.guide == "random":
                move = problem.eps * problem.rng.uniform("times", problem.start, step)[:, :1]
                use = problem.rng.uniform("events", problem.start, step)[:, :1]
                problem.record(self._moved(problem, move, use * present))
                continue
            x = self._moved(problem, move, use)
            gradient = problem.loss_gradient(x).gradient[:, :1] * present
            use = use + gradient
            move = move + 2.5 * problem.eps / self.steps * gradient.sign()
            move = move.clamp(0.0 if self.causal else -problem.eps, problem.eps)
        problem.record(self._moved(problem, move, use))

    def _moved(self, problem: Problem, move: Tensor, use: Tensor) -> Tensor:
        """The lists with times moved, of the events of most use if not of all."""
        move = move.abs() if self.causal else move
        if self.events is not None:
            size = use.abs().flatten(1)
            top = size.topk(min(self.events, size.shape[1])).indices
            chosen = torch.zeros_like(size).scatter_(1, top, 1) * (size > 0)
            move = move * chosen.view(move.shape)
        move = move * (problem.images[:, 3:] > PRESENT)
        x = problem.images.clone()
        x[:, :1] += move
        return problem.ball.project(x)
