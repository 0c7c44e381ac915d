"""Rules that attacks obey on every network, and break where gradients are masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.gradient_descent import PGD
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.mode_ranking import FEW_DRAWS, SCORE_DRAWS
from robust_snn.attacks.norm_ball import NormBall
from robust_snn.diagnostics.diagnostic import Diagnostic, grade, two_errors
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import count_classes
from robust_snn.victim.scoring import correct

Curves = dict[str, dict[float, float]]
Crafting = Callable[..., Tensor]  # `pgd_images`, which several checks at once may remember
STEPS = 10  # of PGD


def fresh_accuracy(victim: Victim, images: Tensor, labels: Tensor, seed: int = 0) -> float:
    """Accuracy on fresh draws of the plain network, in [0, 1]."""
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        right = correct(
            variant, x, y, draws=SCORE_DRAWS, ids=ids, purpose="score", batch_size=len(x)
        )
    return float(right.double().mean(0).mean())


def pgd_images(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = STEPS,
) -> Tensor:
    """What PGD makes of images within a radius, which may be one that nobody would ask for."""
    attack = PGD(steps=steps, eot_loss=FEW_DRAWS)
    return attack.within(victim, images, labels, eps, norm, seed).images


def accuracy_over_eps(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = STEPS,
    curves: Curves | None = None,
    craft: Crafting = pgd_images,
) -> list[Diagnostic]:
    """Robust accuracy must not rise with eps, and must reach chance where a grey image is allowed.

    Half of the range in Linf, and half of the root of the number of pixels in L2, reach a grey
    image from any image, so that no classifier can be better than to name the commonest class.
    """
    grey = 0.5 if norm == "Linf" else 0.5 * images[0].numel() ** 0.5
    radii = sorted({eps / 2, eps, 2 * eps, grey})
    accuracies = _curve(curves, "eps")
    for radius in radii:
        made = craft(victim, images, labels, eps=radius, norm=norm, seed=seed, steps=steps)
        accuracies[radius] = fresh_accuracy(victim, made, labels, seed)
    one_class = float(labels.bincount().max()) / len(labels)  # what the same answer to all gives
    chance = max(1 / count_classes(victim, images), one_class)
    end = accuracies[grey]
    collapse = Diagnostic(
        "collapse",
        end,
        grade(end, chance + 1e-9, chance + two_errors(len(images))),
        f"at eps = {grey:.3g}, which allows a grey image, the accuracy is {percent(end)}",
    )
    return [must_not_rise("eps", accuracies, len(images)), collapse]


def accuracy_over_steps(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = 20,
    curves: Curves | None = None,
) -> list[Diagnostic]:
    """Robust accuracy must not rise with steps, and many must be stronger than a single one."""
    accuracies = _curve(curves, "steps")
    for count in sorted({1, max(steps // 4, 2), max(steps, 3)}):
        alpha = eps if count == 1 else None
        attack = PGD(steps=count, alpha=alpha, random_start=count > 1, eot_loss=FEW_DRAWS)
        adversarial = attack(victim, images, labels, eps=eps, norm=norm, seed=seed)
        accuracies[count] = fresh_accuracy(victim, adversarial.images, labels, seed)
    first, last = accuracies[1], accuracies[max(accuracies)]
    comparison = compare_strength(
        "iterative against single-step", last, first, len(images), "iterative", "single-step"
    )
    return [must_not_rise("steps", accuracies, len(images)), comparison]


def against_random_noise(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    steps: int = STEPS,
    points: int = 20,
    curves: Curves | None = None,
    craft: Crafting = pgd_images,
) -> Diagnostic:
    """White-box accuracy must not exceed that of the worst of several random points.

    The points are at the same distance as those of the attack.
    """
    adversarial = craft(victim, images, labels, eps=eps, norm=norm, seed=seed, steps=steps)
    white = fresh_accuracy(victim, adversarial, labels, seed)
    worst, left = torch.ones(len(images)), _curve(curves, "random points")
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        ball, rng = NormBall(x, eps, norm), ImageRng(seed, ids, x)
        for point in range(points):
            noisy, purpose = ball.random_surface(rng, point), f"noise-{point}"
            right = correct(variant, noisy, y, draws=2, ids=ids, purpose=purpose, batch_size=len(x))
            worst = torch.minimum(worst, right.float().mean(1).cpu())
            left[point + 1] = float(worst.mean())
    black = float(worst.mean())
    return compare_strength(
        "white-box against noise", white, black, len(images), "gradients", "random noise"
    )


def _curve(curves: Curves | None, name: str) -> dict[float, float]:
    """Where accuracies are kept, by what an attack may do; in `curves`, where a caller has some."""
    return {} if curves is None else curves.setdefault(name, {})


def must_not_rise(what: str, accuracies: Mapping[Any, float], images: int) -> Diagnostic:
    """Robust accuracy must not rise where the attack may do more.

    Args:
        what: What grows, such as `"eps"`.
        accuracies: Accuracy for every value of it.
        images: Number of images.
    """
    points = sorted(accuracies.items())
    rise = max([0.0, *(after - before for (_, before), (_, after) in pairwise(points))])
    shown = ", ".join(f"{percent(value)} at {at:.3g}" for at, value in points)
    status = grade(rise, two_errors(images) / 2, two_errors(images))
    return Diagnostic(f"accuracy over {what}", rise, status, f"must not rise with {what}: {shown}")


def compare_strength(
    name: str, stronger: float, weaker: float, images: int, strong: str, weak: str
) -> Diagnostic:
    """The accuracy under an attack must not exceed that under one that knows less.

    Args:
        name: Name of the diagnostic.
        stronger: Accuracy under the attack that knows more, such as the gradient.
        weaker: Accuracy under the attack that knows less.
        images: Number of images.
        strong: What the first attack is called.
        weak: What the second is called.
    """
    excess = stronger - weaker
    status = grade(excess, two_errors(images) / 2, two_errors(images))
    why = f"{percent(stronger)} of images are left by {strong}, {percent(weaker)} by {weak}"
    return Diagnostic(name, excess, status, why)
