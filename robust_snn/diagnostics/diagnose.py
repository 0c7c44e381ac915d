"""All diagnostics, or those that are cheap enough for every evaluation."""

from __future__ import annotations

from torch import Tensor, nn

from robust_snn.diagnostics.attack_sanity import against_noise, over_eps, over_steps
from robust_snn.diagnostics.diagnostic import Finding
from robust_snn.diagnostics.input_gradients import (
    agreement,
    batch_mates,
    finite_differences,
    slopes,
    vanishing,
)
from robust_snn.diagnostics.stochasticity import convergence, fixed_noise
from robust_snn.foreign import adapt
from robust_snn.victim import Victim


def diagnose(
    victim: Victim | nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    full: bool = True,
) -> list[Finding]:
    """Looks for signs that the network hides its gradient from the victim's gradient mode.

    Args:
        victim: The victim, with the gradient mode to be judged; or a network, with its own.
        images: A few dozen images `[B, C, H, W]` in [0, 1]; without the clean errors.
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        full: Also run attacks (some hundred gradients per image); else a few gradients only.
    """
    victim = adapt(victim)
    found = vanishing(victim, images, labels, seed=seed)
    found += slopes(victim, images, labels, seed=seed)
    found.append(agreement(victim, images, labels, seed=seed))
    found.append(batch_mates(victim, images, labels, seed=seed))
    if not full:
        return found
    found.append(finite_differences(victim, images, labels, eps=eps, norm=norm, seed=seed))
    found += over_eps(victim, images, labels, eps=eps, norm=norm, seed=seed)
    found += over_steps(victim, images, labels, eps=eps, norm=norm, seed=seed)
    found.append(against_noise(victim, images, labels, eps=eps, norm=norm, seed=seed))
    found.append(convergence(victim, images, labels, seed=seed))
    found.append(fixed_noise(victim, images, labels, eps=eps, norm=norm, seed=seed))
    return found
