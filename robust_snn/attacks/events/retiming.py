"""Events that happen earlier or later: every pixel keeps its number of events."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, positive, search
from robust_snn.attacks.events.flips import EVENT, check_budget, check_frames
from robust_snn.utils.errors import InputError, unknown
from robust_snn.victim import Victim

GUIDES = ("gradient", "random")


def retiming(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "L0",
    seed: int = 0,
    steps: int = 20,
    jitter: int = 1,
    delay: int | None = None,
    guide: str = "gradient",
    **shared: Any,
) -> Adversarial:
    """Moves events to other time steps of their pixel and polarity.

    The threat is that of spike retiming (ICLR 2026): a budget of moved events, of steps that one
    event moves, and of steps in total. The search is projected gradient ascent, as in `event_pgd`:
    gradients add up in a latent tensor, and of the clean frames' events those move that gain most
    in it. A binary entry takes one event, an entry of counts 255.

    Args:
        victim: What to attack.
        images: Frames `[B, T, C, H, W]`, binary or counts of 1/255 per event.
        labels: `[B]`.
        eps: Changed entries per recording. A moved event changes two, so `eps // 2` events move.
        norm: `"L0"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        jitter: Steps that one event may move, either way.
        delay: Steps that all events of a recording may move together; no limit if left out.
        guide: `"gradient"`, or `"random"` for moves at random, the hardest of `steps` tries: what
            an attack must beat.
        **shared: Options of `Search`.

    Raises:
        InputError: If the frames hold no whole events, or an option has a wrong value.
    """
    for name, value in (("steps", steps), ("jitter", jitter)):
        positive(name, value)
    if delay is not None:
        positive("delay", delay)
    if guide not in GUIDES:
        raise unknown("guide of retiming", guide, GUIDES)
    moves, unit = check_budget("retiming", norm, eps) // 2, _unit(images)

    def retimed(latent: Tensor, clean: Tensor) -> Tensor:
        before = (clean / unit).round()
        after = _move(before, latent, round(1 / unit), jitter, moves, delay)
        return torch.where(after == before, clean, after * unit)

    def walk(problem: Problem) -> None:
        clean, latent = problem.images, torch.zeros_like(problem.images)
        x = clean
        for step in range(steps):
            if guide == "random":
                x = retimed(problem.dice.uniform("moves", problem.start, step), clean)
                problem.visit(x)
            else:
                latent = latent + problem.climb(x).gradient
                x = retimed(latent, clean)
        problem.visit(x)

    return search(walk, victim, images, labels, eps=1.0, norm="Linf", seed=seed, shared=shared)


def _unit(images: Tensor) -> float:
    """What one event is worth: 1 in binary frames, 1/255 in frames of counts."""
    check_frames("retiming", images)
    if bool(((images == 0) | (images == 1)).all()):
        return 1.0
    if not torch.allclose(images / EVENT, (images / EVENT).round(), atol=1e-3):
        raise InputError("retiming needs frames of whole events: zeros and ones, or n / 255")
    return EVENT


def _move(
    before: Tensor, use: Tensor, capacity: int, jitter: int, moves: int, delay: int | None
) -> Tensor:
    """Counts after the moves that raise the sum of `counts * use` most, chosen greedily.

    Every round pairs each bin that has room with the best event near it, and each event with the
    best bin that asked for it; of these pairs the best move, as far as the budgets last.

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
        asked = [_later(gain.where(source == i, 0.0), -d) for i, d in enumerate(offsets)]
        gain, target = (found.flatten(1) for found in torch.stack(asked).max(0))  # of every event
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
