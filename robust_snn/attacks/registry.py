"""The attacks by name, and what a suite must know of one before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import Parameter, signature
from typing import Any, Protocol

from torch import Tensor

from robust_snn.attacks.apgd import apgd, apgd_t
from robust_snn.attacks.base import Adversarial, Search
from robust_snn.attacks.do import do
from robust_snn.attacks.gradient_descent import pgd
from robust_snn.attacks.losses import least_classes_of
from robust_snn.attacks.mim import mim
from robust_snn.attacks.norm_ball import NORMS
from robust_snn.attacks.sapgd import sapgd
from robust_snn.attacks.single_step import fast_gradient, random_fast_gradient
from robust_snn.attacks.transfer import transfer
from robust_snn.utils.errors import InputError, unknown
from robust_snn.victim import Victim


class Attack(Protocol):
    """The form of every attack; their options differ."""

    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        norm: str = "Linf",
        seed: int = 0,
        **options: Any,
    ) -> Adversarial: ...


ATTACKS: dict[str, Attack] = {
    "fgsm": fast_gradient,
    "rfgsm": random_fast_gradient,
    "pgd": pgd,
    "mim": mim,
    "apgd": apgd,
    "apgd-t": apgd_t,
    "sapgd": sapgd,
    "do": do,
    "transfer": transfer,
}
_THREAT = ("victim", "images", "labels", "eps", "norm", "seed")


def options_of(name: str) -> tuple[str, ...]:
    """Names of the options of an attack, its own and those of `Search`.

    Raises:
        InputError: If there is no attack of that name.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return _taken(ATTACKS[name])


def _taken(attack: Callable[..., Adversarial]) -> tuple[str, ...]:
    parameters = signature(attack).parameters.values()
    own = [p.name for p in parameters if p.kind is not Parameter.VAR_KEYWORD]
    if len(own) < len(parameters):
        own += [f.name for f in fields(Search)]
    return tuple(option for option in own if option not in _THREAT)


def check_options(
    name: str, attack: Callable[..., Adversarial], options: Mapping[str, Any]
) -> None:
    """Refuses options that an attack does not take.

    Raises:
        InputError: If an option is not known, or a shared one is wrong.
    """
    known = _taken(attack)
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    Search(**{f.name: options[f.name] for f in fields(Search) if f.name in options})


def check_attack(name: str, norm: str, options: Mapping[str, Any]) -> None:
    """Refuses what `ATTACKS[name]` could not run, before anything runs.

    Raises:
        InputError: If the attack, an option or the norm is not known, or a shared option is wrong.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    check_options(name, ATTACKS[name], options)
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if name == "do" and norm != "L2":
        raise InputError(f"do moves on a sphere, which is L2's; got norm {norm}")


def least_classes(name: str, options: Mapping[str, Any]) -> int:
    """Fewest classes with which an attack can run."""
    parameters = signature(ATTACKS[name]).parameters
    own = {key: p.default for key, p in parameters.items() if key in ("loss", "targets")}
    given = {"loss": "ce", "targets": None, **own, **options}
    return least_classes_of(given["loss"], given["targets"] is not None)
