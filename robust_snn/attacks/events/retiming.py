"""Events that happen earlier or later: every pixel keeps its number of events."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.base import IterativeAttack, check_positive
from robust_snn.attacks.events.event_frames import EVENT, check_budget, check_frames, is_binary
from robust_snn.attacks.problem import Problem
from robust_snn.utils.errors import InputError, unknown

GUIDES = ("gradient", "random")


@dataclass(frozen=True, kw_only=True)
class Retiming(IterativeAttack):
    """Moves events to other time steps of their pixel and polarity.

    The threat is that of spike retiming (ICLR 2026): a budget of moved events, of steps that one
    event moves, and of steps in total. `eps` counts changed entries per recording; a moved event
    changes two, so `eps // 2` events move. The search is projected gradient ascent, as in
    `EventPGD`: gradients add up in a latent tensor, and of the clean frames' events those move that
    gain most in it. Frames are binary or counts of 1/255 per event; a binary entry takes one event,
    an entry of counts 255.

    Attributes:
        steps: Gradients per start.
        jitter: Steps that one event may move, either way.
        delay: Steps that all events of a recording may move together; no limit if None.
        guide: `"gradient"`, or `"random"` for moves at random, the hardest of `steps` tries: the
            baseline that an attack must beat.
    """

    name = "retiming"
    norms = ("L0",)
    steps: int = 20
    jitter: int = 1
    delay: int | None = None
    guide: str = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("jitter", self.jitter)
        if self.delay is not None:
            check_positive("delay", self.delay)
        if self.guide not in GUIDES:
            raise unknown("guide of retiming", self.guide, GUIDES)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        check_budget(self.name, eps)
        check_frames(self.name, images)
        event = _event(images)
        if not torch.allclose(images / event, (images / event).round(), atol=1e-3):
            raise InputError("retiming needs frames of whole events: zeros and ones, or n / 255")

    def run(self, problem: Problem) -> None:
        clean, latent = problem.images, torch.zeros_like(problem.images)
        x, moves = clean, int(problem.eps) // 2
        for step in range(self.steps):
            if self.guide == "random":
                x = self._retimed(problem.rng.uniform("moves", problem.start, step), clean, moves)
                problem.record(x)
            else:
                latent = latent + problem.loss_gradient(x).gradient
                x = self._retimed(latent, clean, moves)
        problem.record(x)

    def _retimed(self, use: Tensor, clean: Tensor, moves: int) -> Tensor:
        """The clean frames after the moves that gain most, `[B, T, C, H, W]`."""
        event = _event(clean)
        before = (clean / event).round()
        after = _move(before, use, round(1 / event), self.jitter, moves, self.delay)
        return torch.where(after == before, clean, after * event)


def _event(frames: Tensor) -> float:
    """The value of one event: 1 in binary frames, 1/255 in frames of counts."""
    return 1.0 if is_binary(frames) else EVENT


def _move(
    before: Tensor, use: Tensor, capacity: int, jitter: int, moves: int, delay: int | None
) -> Tensor:
    """Counts after the moves that raise the sum of `counts * use` most, chosen greedily.

    Every round pairs each bin that has room with the event near it that gains most, and each event
    with the best of the bins paired with it; the best of these moves are made while budgets last.

    Args:
        before: Counts `[B, T, C, H, W]`.
        use: What an event is worth in a bin, of the same shape.
        capacity: Events that a bin can take.
        jitter: Steps that an event may move.
        moves: Events that may move, per recording.
        delay: Steps that they may move together; where it is given, gains are per step.
    """
    offsets = [d for d in range(-jitter, jitter + 1) if d and abs(d) < before.shape[1]]
    after, still = before.clone(), before.clone()  # an event moves once
    rank = torch.arange(min(moves, before[:1].numel()), device=before.device)
    events_left = torch.full((len(before), 1), moves, device=before.device)
    steps_left = torch.full((len(before), 1), delay or math.inf, device=before.device)
    price = torch.tensor([abs(d) for d in offsets], device=before.device)
    while offsets:
        gains = []
        for d in offsets:
            gain = (use - _later(use, d)) / (abs(d) if delay else 1)
            legal = (after < capacity) & (_later(still, d) > 0)
            legal &= (steps_left >= abs(d)).view(-1, *[1] * (use.ndim - 1))
            gains.append(gain.where(legal, 0.0))
        gain, source = torch.stack(gains).max(0)  # of every bin
        paired = [_later(gain.where(source == i, 0.0), -d) for i, d in enumerate(offsets)]
        gain, target = (part.flatten(1) for part in torch.stack(paired).max(0))  # of every event
        best = gain.topk(len(rank))
        cost = price[target.gather(1, best.indices)]
        go = (best.values > 0) & (rank < events_left) & (cost.cumsum(1) <= steps_left)
        if not go.any():
            break
        going = torch.zeros_like(gain, dtype=torch.bool).scatter_(1, best.indices, go)
        for i, d in enumerate(offsets):
            moved = (going & (target == i)).view(before.shape).to(before.dtype)
            still, after = still - moved, after - moved + _later(moved, d)
        events_left = events_left - go.sum(1, keepdim=True)
        steps_left = steps_left - (cost * go).sum(1, keepdim=True)
    return after


def _later(x: Tensor, steps: int) -> Tensor:
    """`x` `[B, T, ...]` moved by some time steps, with zeros where it came from."""
    moved = torch.zeros_like(x)
    if steps > 0:
        moved[:, steps:] = x[:, :-steps]
    else:
        moved[:, :steps] = x[:, -steps:]
    return moved
