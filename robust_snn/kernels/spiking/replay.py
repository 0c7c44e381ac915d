"""Membranes from what a layer received, outside of the spiking loop."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def membrane_potential(
    drive: Tensor,
    spikes: Tensor | None,
    decay: Tensor | float,
    *,
    threshold: float = 1.0,
    reset: Literal["hard", "soft"] = "hard",
    v_reset: float = 0.0,
) -> Tensor:
    """Membranes before firing, replayed from what a layer received and fired.

    The gradient takes the spikes as given: it does not pass their resets.

    Args:
        drive: What is added to the membrane, `[T, ...]`.
        spikes: What the neurons fired, before any gate, `[T, ...]`; if None, whatever reaches the
            threshold.
        decay: Leak, one number, one per step `[T]`, or broadcast to `[T, ...]`.
        threshold: Firing threshold; of neurons with several, what a spike takes away.
        reset: `"hard"` or `"soft"`.
        v_reset: Membrane after a hard reset, and at the start.

    Returns:
        `[T, ...]`.
    """
    carried = torch.full_like(drive[0], v_reset if reset == "hard" else 0.0)
    potentials = []
    for step, (leak, current) in enumerate(zip(per_step(decay, len(drive)), drive, strict=True)):
        v = leak * carried + current
        potentials.append(v)
        fired = (v >= threshold).to(v.dtype) if spikes is None else spikes[step].detach()
        carried = torch.where(fired > 0, v_reset, v) if reset == "hard" else v - threshold * fired
    return torch.stack(potentials)


def per_step(decay: Tensor | float, steps: int) -> list[Tensor | float]:
    """The leak of every step, from one number, from `[T]` or from `[T, ...]`."""
    return list(decay.unbind(0)) if isinstance(decay, Tensor) else [decay] * steps
