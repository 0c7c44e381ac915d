"""The attacks by name, as suites name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_snn.attacks.apgd import APGD, APGDT
from robust_snn.attacks.base import Attack
from robust_snn.attacks.events.camera_patterns import CameraPatterns
from robust_snn.attacks.events.flip_search import FlipSearch
from robust_snn.attacks.events.flips import EventPGD, RandomFlips
from robust_snn.attacks.events.g2s import G2S
from robust_snn.attacks.events.retiming import Retiming
from robust_snn.attacks.events.retiming_search import RetimingSearch
from robust_snn.attacks.events.sda import SDA
from robust_snn.attacks.events.soft_retiming import SoftRetiming
from robust_snn.attacks.events.spikefool import SpikeFool
from robust_snn.attacks.fmn import FMN
from robust_snn.attacks.gradient_descent import DO, FGSM, MIM, PGD, RFGSM, SAPGD
from robust_snn.attacks.square import Square
from robust_snn.attacks.student import Student
from robust_snn.attacks.transfer import Transfer
from robust_snn.utils.errors import unknown

ATTACKS: dict[str, type[Attack]] = {
    cls.name: cls
    for cls in (FGSM, RFGSM, PGD, MIM, APGD, APGDT, SAPGD, DO, FMN, Transfer, Student, Square)
}
EVENT_ATTACKS: dict[str, type[Attack]] = {
    cls.name: cls
    for cls in (
        SDA,
        SpikeFool,
        EventPGD,
        G2S,
        FlipSearch,
        RandomFlips,
        CameraPatterns,
        Retiming,
        SoftRetiming,
        RetimingSearch,
    )
}


def make_attack(
    name: str, options: Mapping[str, Any], table: Mapping[str, type[Attack]] = ATTACKS
) -> Attack:
    """Makes an attack from a name and options, as a suite gives them.

    Args:
        name: A name of the table.
        options: Its options; those left out keep their defaults.
        table: `ATTACKS`, or `EVENT_ATTACKS` for event frames.

    Raises:
        InputError: If there is no such attack or option, with the nearest match, or a value is
            wrong.
    """
    if name not in table:
        raise unknown("attack", name, table)
    known = table[name].option_names()
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    return table[name](**options)
