"""Attacks on a `Victim`, all of one form: `attack(victim, images, labels, *, eps, norm, seed)`.

Every attack returns `Adversarial` images that stay in the ball and in [0, 1]. It depends on nothing
but its arguments, and changes neither the victim nor a global generator. A row of `ATTACKS` is all
that a suite needs to name an attack.
"""

from robust_snn.attacks.apgd import apgd, apgd_t
from robust_snn.attacks.base import Adversarial, Search
from robust_snn.attacks.do import do
from robust_snn.attacks.eot_draws import Adaptive
from robust_snn.attacks.events.event_attacks import EVENT_ATTACKS, check_event_attack
from robust_snn.attacks.events.flips import event_pgd, flips, random_flips
from robust_snn.attacks.events.retiming import retiming
from robust_snn.attacks.events.sda import sda
from robust_snn.attacks.gradient_descent import pgd
from robust_snn.attacks.mim import mim
from robust_snn.attacks.mode_ranking import BUDGETS, Row, Trial, gradient_evaluations, plan, probe
from robust_snn.attacks.norm_ball import NORMS
from robust_snn.attacks.registry import ATTACKS, check_attack, least_classes, options_of
from robust_snn.attacks.sapgd import sapgd
from robust_snn.attacks.transfer import transfer

__all__ = [
    "ATTACKS",
    "BUDGETS",
    "EVENT_ATTACKS",
    "NORMS",
    "Adaptive",
    "Adversarial",
    "Row",
    "Search",
    "Trial",
    "apgd",
    "apgd_t",
    "check_attack",
    "check_event_attack",
    "do",
    "event_pgd",
    "flips",
    "gradient_evaluations",
    "least_classes",
    "mim",
    "options_of",
    "pgd",
    "plan",
    "probe",
    "random_flips",
    "retiming",
    "sapgd",
    "sda",
    "transfer",
]
