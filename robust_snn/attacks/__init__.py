"""Attacks on a `Victim` as frozen dataclasses: `PGD(steps=20)(victim, images, labels, eps=0.03)`.

Every attack returns `Adversarial` images within the threat and in [0, 1]. It depends on nothing but
its options and arguments, and changes neither the victim nor a global generator. A row of `ATTACKS`
or `EVENT_ATTACKS` is all that a suite needs to name an attack.
"""

from robust_snn.attacks.apgd import APGD, APGDT
from robust_snn.attacks.attack_budget import (
    BUDGETS,
    BudgetedAttack,
    attacks_of_budget,
)
from robust_snn.attacks.base import Adversarial, Attack
from robust_snn.attacks.eot_draws import AdaptiveDraws
from robust_snn.attacks.events.camera_patterns import CameraPatterns
from robust_snn.attacks.events.event_frames import changed_entries, flips_needed
from robust_snn.attacks.events.event_times import EventTimes
from robust_snn.attacks.events.flip_search import FlipSearch
from robust_snn.attacks.events.flips import EventPGD, RandomFlips
from robust_snn.attacks.events.g2s import G2S
from robust_snn.attacks.events.retiming import Retiming
from robust_snn.attacks.events.retiming_search import RetimingSearch
from robust_snn.attacks.events.sda import SDA
from robust_snn.attacks.events.soft_retiming import SoftRetiming
from robust_snn.attacks.events.spikefool import SpikeFool
from robust_snn.attacks.fmn import FMN
from robust_snn.attacks.gradient_attack import GradientAttack, IterativeAttack
from robust_snn.attacks.gradient_descent import DO, FGSM, MIM, PGD, RFGSM, SAPGD
from robust_snn.attacks.mode_ranking import ModeTrial, RankingEffort, rank_modes
from robust_snn.attacks.patch import Patch
from robust_snn.attacks.per_step import PerStep
from robust_snn.attacks.registry import ATTACKS, EVENT_ATTACKS, make_attack
from robust_snn.attacks.spatial import Flow, Spatial
from robust_snn.attacks.square import Square
from robust_snn.attacks.student import Student
from robust_snn.attacks.transfer import Transfer
from robust_snn.attacks.universal import Universal

__all__ = [
    "APGD",
    "APGDT",
    "ATTACKS",
    "BUDGETS",
    "DO",
    "EVENT_ATTACKS",
    "FGSM",
    "FMN",
    "G2S",
    "MIM",
    "PGD",
    "RFGSM",
    "SAPGD",
    "SDA",
    "AdaptiveDraws",
    "Adversarial",
    "Attack",
    "BudgetedAttack",
    "CameraPatterns",
    "EventPGD",
    "EventTimes",
    "FlipSearch",
    "Flow",
    "GradientAttack",
    "IterativeAttack",
    "ModeTrial",
    "Patch",
    "PerStep",
    "RandomFlips",
    "RankingEffort",
    "Retiming",
    "RetimingSearch",
    "SoftRetiming",
    "Spatial",
    "SpikeFool",
    "Square",
    "Student",
    "Transfer",
    "Universal",
    "attacks_of_budget",
    "changed_entries",
    "flips_needed",
    "make_attack",
    "rank_modes",
]
