"""A user's own attack in a suite: `implementation: file.py:attack`.

    attack(victim, images, labels, eps=, norm=, seed=, **options) -> adversarial images

What it returns is checked and scored like what any attack returns.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robust_snn.adapters._crafting import SeededAttack
from robust_snn.attacks.threat_radius import NORMS
from robust_snn.eval.protocol.implementation import (
    Crafted,
    CraftInputs,
    Implementation,
    given_settings,
)
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.threat_model import ConstraintViolation, Threat
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_function import UserFunction, load_function, short_reference
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import CheckedInputs

CALLED = "attack(victim, images, labels, eps=, norm=, seed=, **options)"
SET_BY_THREAT = {"eps", "norm", "seed"}
SHOWN = 8  # digits of the digest that stands for a version


def user_attack(reference: str) -> Implementation:
    """The implementation of a user's function, whose file is loaded and so runs its code.

    Args:
        reference: `file.py:attack` or `package.module:attack`.

    Raises:
        InputError: If there is no such function.
    """
    attack = load_function(reference)

    def check(row: AttackSpec, threat: Threat) -> None:
        for name in SET_BY_THREAT & row.options.keys():
            raise InputError(
                f"'{row.name}' gets {name} from the threat model, not from its options"
            )
        try:
            attack.check(None, None, None, **_arguments(row, threat, 0))
        except InputError as error:
            raise InputError(f"'{row.name}' is called as {CALLED}, but {error}") from None

    return Implementation(
        Path(short_reference(reference).rpartition(":")[0]).name,
        check,
        partial(_craft, attack),
        lambda row: 2,
        events=True,
        blind=lambda row: row.gradient is None,
        norms=NORMS,
        release=attack.module.sha256[:SHOWN],
    )


def _arguments(row: AttackSpec, threat: Threat, seed: int) -> dict[str, Any]:
    return {**given_settings(row), "eps": threat.eps, "norm": threat.norm, "seed": seed}


def _craft(attack: UserFunction, asked: CraftInputs) -> Crafted:
    victim, images, labels, row, threat, _, _, seed = asked

    def call(victim: Victim, inputs: CheckedInputs, stream: int) -> Tensor:
        x, y, _ = inputs
        with torch.enable_grad():
            # copies, because an attack may write into what it is given
            found = attack(victim, x.clone(), y.clone(), **_arguments(row, threat, stream))
        if not isinstance(found, Tensor):
            raise ConstraintViolation(
                f"{row.name} returned {type(found).__name__}, expected images {tuple(x.shape)}"
            )
        found = found.detach().float()
        threat.check(found, x, row.name)
        return found

    adversarial = SeededAttack(victim, seed, call)(images, labels)
    with torch.no_grad():
        return Crafted((adversarial,), victim(adversarial).argmax(1) == labels)
