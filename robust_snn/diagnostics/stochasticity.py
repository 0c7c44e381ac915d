"""What noise does to an attack: the draws that a gradient needs, and the gap to known noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.gradient_descent import PGD
from robust_snn.diagnostics.attack_sanity import Curves, ShortAttacks
from robust_snn.diagnostics.diagnostic import Diagnostic, grade, two_errors
from robust_snn.diagnostics.input_gradients import cosines, input_gradient
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim

COUNTS = (1, 5, 10, 20, 50)


def eot_convergence(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    draws: int = 20,
    curves: Curves | None = None,
) -> Diagnostic:
    """Cosine of two independent gradients of K draws each, for K up to 50.

    Args:
        victim: The victim.
        images: `[B, C, H, W]`.
        labels: `[B]`.
        seed: Seed of the noise.
        draws: Draws that the attacks average; their cosine decides.
        curves: Where the cosines are kept too.
    """
    if not victim.stochastic:
        return Diagnostic("EOT convergence", 1.0, "pass", "the victim is deterministic")
    halves = [torch.zeros_like(images), torch.zeros_like(images)]
    by_count: dict[float, float] = {}
    for count in range(1, max(*COUNTS, draws) + 1):
        for half, total in enumerate(halves):
            total += input_gradient(victim, images, labels, seed + 2 * count + half).to(total)
        if count in (*COUNTS, draws):
            by_count[count] = float(cosines(*halves).mean())
    if curves is not None:
        curves["draws"] = by_count
    cosine = by_count[draws]
    shown = ", ".join(f"{value:.2f} at {count}" for count, value in sorted(by_count.items()))
    why = f"mean cosine of two gradients by number of draws: {shown}"
    return Diagnostic("EOT convergence", cosine, grade(-cosine, -0.8, -0.5), why)


def known_noise(attacks: ShortAttacks) -> Diagnostic:
    """Accuracy under fresh noise minus that under known noise: what randomness adds.

    Known noise is the same in every call, so the attack sees the draws that score it.
    """
    victim, images, labels = attacks.victim, attacks.images, attacks.labels
    if not victim.stochastic:
        return Diagnostic("fixed noise", 0.0, "pass", "the victim is deterministic")
    fresh = attacks.accuracy(attacks.pgd())
    known = victim.replace(noise="frozen", cost=victim.cost)
    attack = PGD(steps=attacks.steps, keep=1, select=1)
    threat: dict[str, Any] = {"eps": attacks.eps, "norm": attacks.norm, "seed": attacks.seed}
    adversarial = attack(known, images, labels, **threat).images
    with attack_variant(known, attacks.seed) as variant, torch.no_grad():
        x, y, _ = on_device(variant, adversarial, labels, None)
        fixed = float((variant(x).argmax(1) == y).double().mean())
    gap = fresh - fixed
    why = f"known noise leaves an accuracy of {percent(fixed)}, fresh noise one of {percent(fresh)}"
    return Diagnostic("fixed noise", gap, grade(gap, 0.1 + two_errors(len(images)), 1.0), why)
