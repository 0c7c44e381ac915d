"""Attacks on event frames that change a number of entries: by projected gradients, or at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.event_frames import (
    EVENT,
    check_binary,
    check_budget,
    check_frames,
    check_only,
    is_binary,
    may_change,
)
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.problem import Problem
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole


@dataclass(frozen=True, kw_only=True)
class EventPGD(IterativeAttack):
    """Projected gradient ascent over whole events.

    Gradients at frames that the threat allows add up in a latent tensor; the frames are what the
    budget leaves of it. In L0, where `eps` counts changed entries per recording, an entry is set to
    1 or to 0 where that follows the latent tensor, for the `eps` largest ones of the recording. In
    Linf, frames hold counts of 1/255 per event: entries move by whole events and by at most `eps`.

    Attributes:
        steps: Gradients per start.
        per_bin: At most so many entries of a time bin change, the largest; no limit if None.
        only: `"all"` changes, `"insertions"` of events or their `"deletions"`.
    """

    name = "event-pgd"
    norms = ("L0", "Linf")
    steps: int = 20
    per_bin: int | None = None
    only: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_only(self.name, self.only)
        if self.per_bin is not None:
            whole(self.per_bin, "per_bin", 1)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        check_frames(self.name, images)
        if norm == "L0":
            check_budget(self.name, eps)
        elif is_binary(images) and images.any():
            raise InputError(
                f"{self.name} moves counts of 1/255 per event in {norm}, and these frames are "
                "binary: take L0, or a set by count"
            )

    def run(self, problem: Problem) -> None:
        clean, latent, eps = problem.images, torch.zeros_like(problem.images), problem.eps
        x, limit = clean, self.per_bin
        least, most = {"insertions": (0.0, torch.inf), "deletions": (-torch.inf, 0.0)}.get(
            self.only, (-torch.inf, torch.inf)
        )
        for _ in range(self.steps):
            gradient = problem.loss_gradient(x).gradient
            if problem.norm == "L0":
                latent = (latent + gradient).clamp(least, most)
                x = _switched(latent, clean, int(eps), limit)
            else:
                latent = (latent + 2.5 * eps / self.steps * gradient.sign()).clamp(-eps, eps)
                latent = latent.clamp(least, most)
                x = _moved_by_events(latent, clean, eps, limit)
        problem.record(x)


@dataclass(frozen=True, kw_only=True)
class BinaryFrameAttack(IterativeAttack):
    """Base of attacks that change `eps` entries of every binary recording.

    Attributes:
        steps: Gradients, or tries, per start.
    """

    norms = ("L0",)
    steps: int = 20

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        check_budget(self.name, eps)
        check_binary(self.name, images)


@dataclass(frozen=True, kw_only=True)
class RandomFlips(BinaryFrameAttack):
    """`eps` entries of binary frames flipped at random: the baseline that an attack must beat.

    The hardest of some tries is returned.

    Attributes:
        steps: Tries per start.
        only: `"all"` flips, `"insertions"`, or `"deletions"` for EventDrop's random removal.
    """

    name = "random-flips"
    only: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_only(self.name, self.only)

    def run(self, problem: Problem) -> None:
        clean = problem.images
        for step in range(self.steps):
            order = problem.rng.uniform("flips", problem.start, step) + 1
            chosen = largest_of_recording(order * may_change(clean, self.only), int(problem.eps))
            problem.record(torch.where(chosen, 1 - clean, clean))


def _switched(latent: Tensor, clean: Tensor, budget: int, per_bin: int | None) -> Tensor:
    """Frames whose entries follow the sign of `latent`, the `budget` largest of a recording."""
    wanted = (latent > 0).to(clean.dtype)
    use = torch.where(wanted != clean, latent.abs(), 0.0)
    if per_bin is not None:
        use = torch.where(_largest(use, per_bin), use, 0.0)
    return torch.where(largest_of_recording(use, budget), wanted, clean)


def _moved_by_events(latent: Tensor, clean: Tensor, eps: float, per_bin: int | None) -> Tensor:
    """Frames moved by `latent` in whole events, the `per_bin` largest moves of every time bin."""
    counts = (clean / EVENT).round()
    moved = counts + (latent / EVENT + latent.sign() * 1e-4).trunc()
    wanted = (moved.clamp(0, 255) * EVENT).clamp(clean - eps, clean + eps).clamp(0, 1)
    if per_bin is None:
        return wanted
    return torch.where(_largest((wanted - clean).abs(), per_bin), wanted, clean)


def largest_of_recording(use: Tensor, count: int) -> Tensor:
    """Entries among the `count` largest positive ones of every recording, `[B, T, ...]`."""
    return _largest(use.flatten(1)[:, None], count).view(use.shape)


def _largest(use: Tensor, count: int) -> Tensor:
    """Entries among the `count` largest positive ones of every row, `[B, rows, ...]`."""
    flat = use.flatten(2)
    top = flat.topk(min(count, flat.shape[-1])).indices
    chosen = torch.zeros_like(flat, dtype=torch.bool).scatter_(2, top, True)
    return (chosen & (flat > 0)).view(use.shape)
