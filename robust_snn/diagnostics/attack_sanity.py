"""Do attacks behave as attacks must on any network? What masks gradients breaks one of these."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.gradient_descent import PGD
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.mode_ranking import FEW_DRAWS, SCORE_DRAWS
from robust_snn.attacks.norm_ball import NormBall
from robust_snn.diagnostics.diagnostic import Finding, grade, slack
from robust_snn.victim import Victim
from robust_snn.victim_scoring import correct, count_classes


def accuracy(victim: Victim, images: Tensor, labels: Tensor, seed: int = 0) -> float:
    """Accuracy on fresh draws of the plain network."""
    with attack_variant(victim, seed) as view:
        x, y, ids = on_device(view, images, labels, None)
        right = correct(view, x, y, draws=SCORE_DRAWS, ids=ids, purpose="score", batch_size=len(x))
    return float(right.double().mean(0).mean())


def over_eps(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 10,
) -> list[Finding]:
    """Does a larger ball leave less, and a ball of everything next to nothing?

    Half of the range in Linf, and half of the root of the number of pixels in L2, reach a grey
    image from any image, so no classifier can hold.
    """
    everything = 0.5 if norm == "Linf" else 0.5 * images[0].numel() ** 0.5
    radii = sorted({eps / 2, eps, 2 * eps, everything})
    left, attack = {}, PGD(steps=steps, eot_loss=FEW_DRAWS)
    for radius in radii:
        found = attack(victim, images, labels, eps=radius, norm=norm, seed=seed)
        left[radius] = accuracy(victim, found.images, labels, seed)
    chance = 1 / count_classes(victim, images)
    end = left[everything]
    collapse = Finding(
        "collapse",
        end,
        grade(end, chance + 1e-9, chance + slack(len(images))),
        f"at eps = {everything:.3g}, which allows a grey image, {end:.1%} of images survive",
    )
    return [rises("eps", left, len(images)), collapse]


def over_steps(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 20,
) -> list[Finding]:
    """Do more steps leave less, and many less than a single one?"""
    left = {}
    for count in sorted({1, max(steps // 4, 2), max(steps, 3)}):
        alpha = eps if count == 1 else None
        attack = PGD(steps=count, alpha=alpha, random_start=count > 1, eot_loss=FEW_DRAWS)
        found = attack(victim, images, labels, eps=eps, norm=norm, seed=seed)
        left[count] = accuracy(victim, found.images, labels, seed)
    first, last = left[1], left[max(left)]
    worse = order(
        "iterative against single-step", last, first, len(images), "iterative", "single-step"
    )
    return [rises("steps", left, len(images)), worse]


def against_noise(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 10,
    points: int = 20,
) -> Finding:
    """Does the gradient find more than the worst of several random points at the same distance?"""
    attack = PGD(steps=steps, eot_loss=FEW_DRAWS)
    found = attack(victim, images, labels, eps=eps, norm=norm, seed=seed)
    white = accuracy(victim, found.images, labels, seed)
    held = torch.ones(len(images))
    with attack_variant(victim, seed) as view:
        x, y, ids = on_device(view, images, labels, None)
        ball, rng = NormBall(x, eps, norm), ImageRng(seed, ids, x)
        for point in range(points):
            noisy, purpose = ball.random_surface(rng, point), f"noise-{point}"
            right = correct(view, noisy, y, draws=2, ids=ids, purpose=purpose, batch_size=len(x))
            held = torch.minimum(held, right.float().mean(1).cpu())
    black = float(held.mean())
    return order("white-box against noise", white, black, len(images), "gradients", "random noise")


def rises(what: str, left: Mapping[Any, float], images: int) -> Finding:
    """Does an attack that may do more leave less?

    Args:
        what: What grows, such as `"eps"`.
        left: Accuracy for every value of it.
        images: Number of images.
    """
    points = sorted(left.items())
    rise = max([0.0, *(after - before for (_, before), (_, after) in pairwise(points))])
    shown = ", ".join(f"{value:.1%} at {at:.3g}" for at, value in points)
    status = grade(rise, slack(images) / 2, slack(images))
    return Finding(f"accuracy over {what}", rise, status, f"must not rise with {what}: {shown}")


def order(
    name: str, stronger: float, weaker: float, images: int, strong: str, weak: str
) -> Finding:
    """Does the attack that knows more leave no more than the one that knows less?

    The runner calls it with what its gradient attacks and its black-box attacks left.
    """
    excess = stronger - weaker
    status = grade(excess, slack(images) / 2, slack(images))
    why = f"{strong} leaves {stronger:.1%} of images, {weak} {weaker:.1%}"
    return Finding(name, excess, status, why)
