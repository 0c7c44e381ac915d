"""Events that happen earlier or later: every pixel keeps its number of events."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.event_frames import EVENT, check_budget, check_frames, is_binary
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.norm_ball import per_image
from robust_snn.attacks.problem import Problem
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import whole

GUIDES = ("gradient", "random")


@dataclass(frozen=True, kw_only=True)
class EventMoves(IterativeAttack):
    """Base of attacks that move events to other time steps of their pixel and polarity.

    The threat is that of spike retiming (arXiv 2602.03284): a budget of moved events, of steps that
    one event moves, and of steps in total. `eps` counts changed entries per recording; a moved
    event changes two, so `eps // 2` events move. Frames are binary or counts of 1/255 per event; a
    binary entry takes one event, an entry of counts 255.

    Attributes:
        steps: Gradients per start.
        jitter: Steps that one event may move, either way.
        delay: Steps that all events of a recording may move together; no limit if None.
    """

    norms = ("L0",)
    steps: int = 20
    jitter: int = 1
    delay: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.jitter, "jitter", 1)
        if self.delay is not None:
            whole(self.delay, "delay", 1)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        check_budget(self.name, eps)
        check_frames(self.name, images)
        event = event_value(images)
        if not torch.allclose(images / event, (images / event).round(), atol=1e-3):
            raise InputError(
                f"{self.name} needs frames of whole events: zeros and ones, or n / 255"
            )

    def offsets(self, frames: Tensor) -> list[int]:
        """The steps by which an event of the frames `[B, T, ...]` can move."""
        return [d for d in range(-self.jitter, self.jitter + 1) if d and abs(d) < frames.shape[1]]

    def moved(self, gains: dict[int, Tensor], clean: Tensor, moves: int) -> Tensor:
        """The clean frames after the moves that gain most, `[B, T, C, H, W]`; see `move`."""
        event = event_value(clean)
        before = (clean / event).round()
        after = move(before, gains, round(1 / event), moves, self.delay)
        return torch.where(after == before, clean, after * event)


@dataclass(frozen=True, kw_only=True)
class Retiming(EventMoves):
    """Moves events by projected gradient ascent, as `EventPGD` flips entries.

    Gradients add up in a latent tensor, and of the clean frames' events those move that gain most
    in it.

    Attributes:
        guide: `"gradient"`, or `"random"` for moves at random, the hardest of `steps` tries: the
            baseline that an attack must beat.
    """

    name = "retiming"
    guide: str = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guide not in GUIDES:
            raise unknown("guide of retiming", self.guide, GUIDES)

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
        """The frames whose events went where `use` is largest."""
        gains = {d: use - later(use, d) for d in self.offsets(clean)}
        return self.moved(gains, clean, moves)


def event_value(frames: Tensor) -> float:
    """The value of one event: 1 in binary frames, 1/255 in frames of counts."""
    return 1.0 if is_binary(frames) else EVENT


def move(
    before: Tensor, gains: dict[int, Tensor], capacity: int, moves: int, delay: int | None
) -> Tensor:
    """Counts after the moves that gain most, chosen greedily.

    Every round pairs each bin that has room with the event near it that gains most, and each event
    with the best of the bins paired with it; the best of these moves are made while budgets last.

    Args:
        before: Counts `[B, T, C, H, W]`.
        gains: By steps of a move, what each bin gains by taking an event from so many steps before
            it; of the same shape.
        capacity: Events that a bin can take.
        moves: Events that may move, per recording.
        delay: Steps that they may move together; where it is given, gains count per step.
    """
    offsets = list(gains)
    after, still = before.clone(), before.clone()  # an event moves once
    rank = torch.arange(min(moves, before[:1].numel()), device=before.device)
    events_left = torch.full((len(before), 1), moves, device=before.device)
    steps_left = torch.full((len(before), 1), delay or math.inf, device=before.device)
    price = torch.tensor([abs(d) for d in offsets], device=before.device)
    while offsets:
        every = []
        for d in offsets:
            gain = gains[d] / (abs(d) if delay else 1)
            legal = (after < capacity) & (later(still, d) > 0)
            legal &= per_image(steps_left >= abs(d), before)
            every.append(gain.where(legal, 0.0))
        gain, source = torch.stack(every).max(0)  # of every bin
        paired = [later(gain.where(source == i, 0.0), -d) for i, d in enumerate(offsets)]
        gain, target = (part.flatten(1) for part in torch.stack(paired).max(0))  # of every event
        best = gain.topk(len(rank))
        cost = price[target.gather(1, best.indices)]
        go = (best.values > 0) & (rank < events_left) & (cost.cumsum(1) <= steps_left)
        if not go.any():
            break
        going = torch.zeros_like(gain, dtype=torch.bool).scatter_(1, best.indices, go)
        for i, d in enumerate(offsets):
            moved = (going & (target == i)).view(before.shape).to(before.dtype)
            still, after = still - moved, after - moved + later(moved, d)
        events_left = events_left - go.sum(1, keepdim=True)
        steps_left = steps_left - (cost * go).sum(1, keepdim=True)
    return after


def later(x: Tensor, steps: int) -> Tensor:
    """`x` `[B, T, ...]` moved by some time steps, with zeros where it came from."""
    moved = torch.zeros_like(x)
    if steps > 0:
        moved[:, steps:] = x[:, :-steps]
    else:
        moved[:, :steps] = x[:, -steps:]
    return moved
