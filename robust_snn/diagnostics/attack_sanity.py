"""Rules that attacks obey on every network, and break where gradients are masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
STEP_COUNTS = (1, 5, 20)  # of the attacks that are compared by their steps
POINTS = 20  # at random, of which the worst counts


@dataclass(frozen=True, eq=False)
class ShortAttacks:
    """Short attacks on some images within one threat, which several checks look at.

    Attributes:
        victim: The victim.
        images: `[B, C, H, W]`.
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        steps: Steps of PGD.
        curves: Takes what the checks measure along the way, such as robust accuracy over `"eps"`.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    eps: float
    norm: str = "Linf"
    seed: int = 0
    steps: int = 10
    curves: Curves = field(default_factory=dict)
    _made: dict[float, Tensor] = field(default_factory=dict, init=False)

    def pgd(self, eps: float | None = None) -> Tensor:
        """What PGD makes of the images, once for each radius, which may be one that nobody would
        ask for."""
        eps = self.eps if eps is None else eps
        if eps not in self._made:
            attack = PGD(steps=self.steps, eot_loss=FEW_DRAWS)
            of = self.victim, self.images, self.labels
            self._made[eps] = attack.within(*of, eps, self.norm, self.seed).images
        return self._made[eps]

    def accuracy(self, images: Tensor) -> float:
        """Accuracy on fresh draws of the plain network, in [0, 1]."""
        with attack_variant(self.victim, self.seed) as variant:
            x, y, ids = on_device(variant, images, self.labels, None)
            right = correct(
                variant, x, y, draws=SCORE_DRAWS, ids=ids, purpose="score", batch_size=len(x)
            )
        return float(right.double().mean(0).mean())

    def curve(self, name: str) -> dict[float, float]:
        """Where accuracies are kept, by what an attack may do."""
        return self.curves.setdefault(name, {})


def accuracy_over_eps(attacks: ShortAttacks) -> list[Diagnostic]:
    """Robust accuracy must not rise with eps, and must reach chance where a grey image is allowed.

    Half of the range in Linf, and half of the root of the number of pixels in L2, reach a grey
    image from any image, so that no classifier can be better than to name the commonest class.
    """
    images, eps = attacks.images, attacks.eps
    grey = 0.5 if attacks.norm == "Linf" else 0.5 * images[0].numel() ** 0.5
    accuracies = attacks.curve("eps")
    for radius in sorted({eps / 2, eps, 2 * eps, grey}):
        accuracies[radius] = attacks.accuracy(attacks.pgd(radius))
    one_class = float(attacks.labels.bincount().max()) / len(images)  # one answer to all
    chance = max(1 / count_classes(attacks.victim, images), one_class)
    end = accuracies[grey]
    collapse = Diagnostic(
        "collapse",
        end,
        grade(end, chance + 1e-9, chance + two_errors(len(images))),
        f"at eps = {grey:.3g}, which allows a grey image, the accuracy is {percent(end)}",
    )
    return [must_not_rise("eps", accuracies, len(images)), collapse]


def accuracy_over_steps(attacks: ShortAttacks) -> list[Diagnostic]:
    """Robust accuracy must not rise with steps, and many must be stronger than a single one."""
    of, count = (attacks.victim, attacks.images, attacks.labels), len(attacks.images)
    eps, norm, seed = attacks.eps, attacks.norm, attacks.seed
    accuracies = attacks.curve("steps")
    for steps in STEP_COUNTS:
        alpha = eps if steps == 1 else None
        attack = PGD(steps=steps, alpha=alpha, random_start=steps > 1, eot_loss=FEW_DRAWS)
        accuracies[steps] = attacks.accuracy(attack(*of, eps=eps, norm=norm, seed=seed).images)
    first, last = accuracies[STEP_COUNTS[0]], accuracies[STEP_COUNTS[-1]]
    comparison = compare_strength(
        "iterative against single-step", last, first, count, "iterative", "single-step"
    )
    return [must_not_rise("steps", accuracies, count), comparison]


def against_random_noise(attacks: ShortAttacks) -> Diagnostic:
    """White-box accuracy must not exceed that of the worst of several random points.

    The points are at the same distance as those of the attack.
    """
    images, seed = attacks.images, attacks.seed
    white = attacks.accuracy(attacks.pgd())
    worst, left = torch.ones(len(images)), attacks.curve("random points")
    with attack_variant(attacks.victim, seed) as variant:
        x, y, ids = on_device(variant, images, attacks.labels, None)
        ball, rng = NormBall(x, attacks.eps, attacks.norm), ImageRng(seed, ids, x)
        for point in range(POINTS):
            noisy, purpose = ball.random_surface(rng, point), f"noise-{point}"
            right = correct(variant, noisy, y, draws=2, ids=ids, purpose=purpose, batch_size=len(x))
            worst = torch.minimum(worst, right.float().mean(1).cpu())
            left[point + 1] = float(worst.mean())
    return compare_strength(
        "white-box against noise", white, left[POINTS], len(images), "gradients", "random noise"
    )


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
