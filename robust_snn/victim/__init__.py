"""A network as an attacker sees it, and what it predicts under noise that no attack has seen."""

from __future__ import annotations

from robust_snn.victim.scoring import accuracy, correct
from robust_snn.victim.victim import SETTINGS, Victim, add_network_check

__all__ = [
    "SETTINGS",
    "Victim",
    "accuracy",
    "add_network_check",
    "correct",
]
