"""The attacks on event frames by name; they are of the form of `robust_snn.attacks.ATTACKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robust_snn.attacks.base import Adversarial
from robust_snn.attacks.events.flips import event_pgd, random_flips
from robust_snn.attacks.events.retiming import retiming
from robust_snn.attacks.events.sda import sda
from robust_snn.attacks.registry import check_options
from robust_snn.utils.errors import InputError, unknown

EVENT_ATTACKS: dict[str, Callable[..., Adversarial]] = {
    "sda": sda,
    "event-pgd": event_pgd,
    "random-flips": random_flips,
    "retiming": retiming,
}
NORMS = {"event-pgd": ("L0", "Linf")}


def check_event_attack(name: str, norm: str, options: Mapping[str, Any]) -> None:
    """Refuses what `EVENT_ATTACKS[name]` could not run, before anything runs.

    Raises:
        InputError: If the attack, an option or the norm is not known.
    """
    if name not in EVENT_ATTACKS:
        raise unknown("attack on event frames", name, EVENT_ATTACKS)
    check_options(name, EVENT_ATTACKS[name], options)
    allowed = NORMS.get(name, ("L0",))
    if norm not in allowed:
        raise InputError(f"{name} knows the norm {' or '.join(allowed)}, got {norm}")
