"""Does averaging suffice, and how much of the robustness is luck?"""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.gradient_descent import PGD
from robust_snn.attacks.mode_ranking import FEW_DRAWS
from robust_snn.diagnostics.attack_sanity import accuracy
from robust_snn.diagnostics.diagnostic import Finding, grade, slack
from robust_snn.diagnostics.input_gradients import cosines, input_gradient
from robust_snn.victim import Victim

COUNTS = (1, 5, 10, 20, 50)


def convergence(
    victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0, draws: int = 20
) -> Finding:
    """How alike are two independent gradients of K draws, for K up to 50?

    Args:
        victim: The victim.
        images: `[B, C, H, W]`.
        labels: `[B]`.
        seed: Seed of the noise.
        draws: Draws that the attacks average; their cosine decides.
    """
    if not victim.stochastic:
        return Finding("EOT convergence", 1.0, "pass", "the victim is deterministic")
    halves = [torch.zeros_like(images), torch.zeros_like(images)]
    alike = {}
    for count in range(1, max(*COUNTS, draws) + 1):
        for half, total in enumerate(halves):
            total += input_gradient(victim, images, labels, seed + 2 * count + half).to(total)
        if count in (*COUNTS, draws):
            alike[count] = float(cosines(*halves).mean())
    found = alike[draws]
    shown = ", ".join(f"{value:.2f} at {count}" for count, value in sorted(alike.items()))
    why = f"mean cosine of two gradients by number of draws: {shown}"
    return Finding("EOT convergence", found, grade(-found, -0.8, -0.5), why)


def fixed_noise(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 10,
) -> Finding:
    """What is left when the noise is known? The gap to fresh noise is what randomness adds."""
    if not victim.stochastic:
        return Finding("fixed noise", 0.0, "pass", "the victim is deterministic")
    attack = PGD(steps=steps, eot_loss=FEW_DRAWS)
    found = attack(victim, images, labels, eps=eps, norm=norm, seed=seed)
    fresh = accuracy(victim, found.images, labels, seed)
    known = victim.replace(noise="frozen", cost=victim.cost)
    attack = PGD(steps=steps, keep=1, select=1)
    found = attack(known, images, labels, eps=eps, norm=norm, seed=seed)
    with attack_variant(known, seed) as view, torch.no_grad():
        x, y, _ = on_device(view, found.images, labels, None)
        fixed = float((view(x).argmax(1) == y).double().mean())
    gap = fresh - fixed
    why = f"known noise leaves {fixed:.1%} of images, fresh noise {fresh:.1%}"
    return Finding("fixed noise", gap, grade(gap, 0.1 + slack(len(images)), 1.0), why)
