"""Attacks on event frames that count changed entries: projected flips, and mere chance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, Problem, positive, search
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

EVENT = 1 / 255  # one event in frames of counts


def event_pgd(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "L0",
    seed: int = 0,
    steps: int = 20,
    per_bin: int | None = None,
    **shared: Any,
) -> Adversarial:
    """Projected gradient ascent over whole events, with a budget in every time bin.

    Gradients at frames that the threat allows add up in a latent tensor; the frames are what the
    budgets leave of it. In L0, an entry is set to 1 or to 0 where that follows the latent tensor,
    for the `per_bin` largest ones of every time bin. In Linf, frames hold counts of 1/255 per
    event: entries move by whole events and by at most `eps`, again the `per_bin` largest of a bin.

    Args:
        victim: What to attack.
        images: Frames `[B, T, C, H, W]`.
        labels: `[B]`.
        eps: Changed entries per recording (L0), or the radius of an entry (Linf).
        norm: `"L0"` or `"Linf"`.
        seed: Seed of all noise and random numbers.
        steps: Gradients per start.
        per_bin: Changed entries per time bin. If left out, `eps / T` in L0, and all in Linf.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    positive("steps", steps)
    steps_in_time = check_frames("event-pgd", images)
    cells = images[0, 0].numel() if len(images) else 0
    if norm == "L0":
        radius, limit = 1.0, check_budget("event-pgd", norm, eps) // steps_in_time
    elif norm == "Linf":
        radius, limit = eps, cells
    else:
        raise InputError(f"event-pgd knows the norms L0 and Linf, got {norm}")
    if per_bin is not None:
        positive("per_bin", per_bin)
        limit = min(limit, per_bin) if norm == "L0" else per_bin

    def legal(latent: Tensor, clean: Tensor) -> Tensor:
        if norm == "L0":
            wanted = (latent > 0).to(clean.dtype)
            use = torch.where(wanted != clean, latent.abs(), 0.0)
        else:
            counts = (clean / EVENT).round()
            moved = counts + (latent / EVENT + latent.sign() * 1e-4).trunc()
            wanted = (moved.clamp(0, 255) * EVENT).clamp(clean - radius, clean + radius).clamp(0, 1)
            use = (wanted - clean).abs()
        return torch.where(_largest(use, limit), wanted, clean)

    def walk(problem: Problem) -> None:
        clean, latent = problem.images, torch.zeros_like(problem.images)
        x = clean
        for _ in range(steps):
            gradient = problem.climb(x).gradient
            if norm == "L0":
                latent = latent + gradient
            else:
                latent = (latent + 2.5 * eps / steps * gradient.sign()).clamp(-eps, eps)
            x = legal(latent, clean)
        problem.visit(x)

    return search(walk, victim, images, labels, eps=radius, norm="Linf", seed=seed, shared=shared)


def random_flips(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "L0",
    seed: int = 0,
    steps: int = 20,
    only: str = "all",
    **shared: Any,
) -> Adversarial:
    """`eps` entries flipped at random, the hardest of some tries: what an attack must beat.

    Args:
        victim: What to attack.
        images: Binary frames `[B, T, C, H, W]`.
        labels: `[B]`.
        eps: Flips per recording.
        norm: `"L0"`.
        seed: Seed of all noise and random numbers.
        steps: Tries per start.
        only: `"all"` entries, or `"events"` for EventDrop's random removal.
        **shared: Options of `Search`.

    Raises:
        InputError: If the frames are not binary or an option has a wrong value.
    """
    positive("steps", steps)
    budget = check_budget("random-flips", norm, eps)
    if only not in ("all", "events"):
        raise InputError(f"only of random-flips must be 'all' or 'events', got {only!r}")
    check_binary("random-flips", images)

    def walk(problem: Problem) -> None:
        clean = problem.images
        for step in range(steps):
            dice = problem.dice.uniform("flips", problem.start, step) + 1
            use = dice if only == "all" else dice * clean
            chosen = _largest(use.flatten(1)[:, None], budget).view(clean.shape)
            problem.visit(torch.where(chosen, 1 - clean, clean))

    return search(walk, victim, images, labels, eps=1.0, norm="Linf", seed=seed, shared=shared)


def flips(images: Tensor, adversarial: Tensor) -> Tensor:
    """Number of entries that differ, `[B]`."""
    return (images != adversarial).flatten(1).sum(1)


def check_frames(name: str, images: Tensor) -> int:
    """Refuses what is no event frames; returns the number of steps.

    Raises:
        InputError: Naming the attack.
    """
    if images.ndim != 5:
        raise InputError(f"{name} needs event frames [B, T, C, H, W], got {tuple(images.shape)}")
    return images.shape[1]


def check_binary(name: str, images: Tensor) -> None:
    """Refuses frames of anything but zeros and ones.

    Raises:
        InputError: Naming the attack.
    """
    check_frames(name, images)
    if not bool(((images == 0) | (images == 1)).all()):
        raise InputError(
            f"{name} flips binary frames, and these hold counts; take a set whose name ends in "
            "-binary, or digits-events"
        )


def check_budget(name: str, norm: str, eps: float) -> int:
    """A budget of changed entries.

    Raises:
        InputError: If the norm is not L0, or `eps` no whole number of at least 0.
    """
    if norm != "L0":
        raise InputError(f"{name} counts changed entries, which is L0's; got norm {norm}")
    if not (eps >= 0 and float(eps).is_integer()):
        raise InputError(f"eps of {name} is a number of entries, such as 200; got {eps:g}")
    return int(eps)


def _largest(use: Tensor, count: int) -> Tensor:
    """Entries among the `count` largest positive ones of every row, `[B, rows, ...]`."""
    flat = use.flatten(2)
    top = flat.topk(min(count, flat.shape[-1])).indices
    chosen = torch.zeros_like(flat, dtype=torch.bool).scatter_(2, top, True)
    return (chosen & (flat > 0)).view(use.shape)
