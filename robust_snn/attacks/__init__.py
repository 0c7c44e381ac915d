"""Attacks on a `Victim`, all of one form: `attack(victim, images, labels, *, eps, norm, seed)`.

Every attack returns `Adversarial` images that stay in the ball and in [0, 1]. It depends on nothing
but its arguments, and changes neither the victim nor a global generator. A row of `ATTACKS` is all
that a suite needs to name an attack.
"""

from robust_snn.attacks.ball import NORMS
from robust_snn.attacks.pgd import pgd
from robust_snn.attacks.registry import ATTACKS, check_attack, least_classes, options_of
from robust_snn.attacks.search import Adversarial, Search

__all__ = [
    "ATTACKS",
    "NORMS",
    "Adversarial",
    "Search",
    "check_attack",
    "least_classes",
    "options_of",
    "pgd",
]
