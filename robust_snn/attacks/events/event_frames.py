"""Event frames as attacks change them: what they may hold, and how many entries differ."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError, unknown

EVENT = 1 / 255  # one event in frames of counts
ONLY = ("all", "insertions", "deletions")


def changed_entries(frames: Tensor, adversarial: Tensor) -> Tensor:
    """Number of entries that differ, `[B]`.

    Raises:
        InputError: If the shapes differ.
    """
    if frames.shape != adversarial.shape:
        raise InputError(
            f"frames {tuple(frames.shape)} were changed to others, {tuple(adversarial.shape)}"
        )
    return (frames != adversarial).flatten(1).sum(1)


def flips_needed(frames: Tensor, adversarial: Tensor, success: Tensor) -> Tensor:
    """Changed entries of every recording that an attack fooled, infinite elsewhere, `[B]`.

    The share of recordings that at most `k` flips fool is `(flips_needed(...) <= k).mean()`.
    """
    changed = changed_entries(frames, adversarial).double()
    return changed.where(success.to(changed.device), torch.inf)


def check_only(name: str, only: str) -> None:
    """Refuses what says not which changes of entries an attack may make.

    Raises:
        InputError: Naming the attack.
    """
    if only not in ONLY:
        raise unknown(f"only of {name}", str(only), ONLY)


def may_change(frames: Tensor, only: str) -> Tensor:
    """Entries of binary frames that may flip: empty ones for insertions, events for deletions."""
    return {
        "all": torch.ones_like(frames, dtype=torch.bool),
        "insertions": frames == 0,
        "deletions": frames > 0,
    }[only]


def check_frames(name: str, frames: Tensor) -> None:
    """Refuses what is no event frames `[B, T, C, H, W]`.

    Raises:
        InputError: Naming the attack.
    """
    if frames.ndim != 5:
        raise InputError(f"{name} needs event frames [B, T, C, H, W], got {tuple(frames.shape)}")


def is_binary(frames: Tensor) -> bool:
    """Whether all entries are zero or one."""
    return bool(((frames == 0) | (frames == 1)).all())


def check_binary(name: str, frames: Tensor) -> None:
    """Refuses frames of anything but zeros and ones.

    Raises:
        InputError: Naming the attack.
    """
    check_frames(name, frames)
    if not is_binary(frames):
        raise InputError(
            f"{name} flips binary frames, and these hold counts; take a set whose name ends in "
            "-binary, or digits-events"
        )


def check_budget(name: str, eps: float) -> None:
    """Refuses an `eps` that is no number of entries.

    Raises:
        InputError: Naming the attack.
    """
    if not (eps >= 0 and float(eps).is_integer()):
        raise InputError(f"eps of {name} is a number of entries, such as 200; got {eps:g}")
