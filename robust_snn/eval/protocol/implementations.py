"""Implementations that a suite's rows can name: from a row and a batch to adversarial images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from robust_snn.eval.protocol.corruptions import Corrupted, corruption
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.threat_model import NORMS, Threat
from robust_snn.utils.errors import InputError, unknown
from robust_snn.victim import Victim
from robust_snn.victim_scoring import correct


@dataclass(frozen=True)
class Crafted:
    """What an attack made of a batch.

    Attributes:
        candidates: Adversarial images `[B, C, H, W]`, one or more versions.
        claimed_robust: What the attack itself takes for robust, bool `[B]`.
        warnings: What the library complained about.
    """

    candidates: tuple[Tensor, ...]
    claimed_robust: Tensor
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Implementation:
    """How to run the attacks of one library.

    Attributes:
        package: Name of the distribution, for the record.
        check: Refuses a row that the library cannot run under a threat, with an `InputError`.
        craft: Attacks a batch; the seed decides every random number of the attack.
        least_classes: Fewest classes that an attack can handle.
        events: Whether its attacks take event frames `[B, T, C, H, W]` too.
        norms: Norms of the threats that it knows.
        judge: Who scores instead of the victim, for rows that corrupt at random.
    """

    package: str
    check: Callable[[AttackSpec, Threat], None]
    craft: Callable[[Victim, Tensor, Tensor, AttackSpec, Threat, int], Crafted]
    least_classes: Callable[[AttackSpec], int]
    events: bool = False
    norms: tuple[str, ...] = ("Linf", "L2")
    judge: Callable[[Victim, AttackSpec], Victim] | None = None

    def describe(self, row: AttackSpec) -> str:
        """Library, version, attack and settings, such as `pyautoattack 0.2.0: fab(steps=20)`."""
        settings: dict[str, Any] = {"steps": row.steps, "restarts": row.restarts}
        settings |= {"noise": None if row.noise == "fresh" else row.noise, **row.options}
        given = ",".join(f"{key}={value}" for key, value in settings.items() if value is not None)
        text = f"{self.package} {version(self.package)}: {row.attack}"
        return f"{text}({given})" if given else text


def implementation(row: AttackSpec) -> Implementation:
    """The implementation that a row names.

    Raises:
        InputError: If there is none of that name.
    """
    if row.implementation not in IMPLEMENTATIONS:
        raise unknown(f"implementation of '{row.name}'", row.implementation, IMPLEMENTATIONS)
    return IMPLEMENTATIONS[row.implementation]


def view(victim: Victim, row: AttackSpec, seed: int) -> Victim:
    """The victim as one attack sees it.

    Raises:
        InputError: If the row's gradient mode or noise policy is not known.
    """
    gradient = row.gradient or victim.gradient
    return victim.replace(gradient=gradient, eot=row.eot, noise=row.noise, seed=seed)


def _check_autoattack(row: AttackSpec, threat: Threat) -> None:
    from robust_snn.adapters.autoattack import LEAST_CLASSES

    if row.attack not in LEAST_CLASSES:
        raise unknown(f"AutoAttack attack in '{row.name}'", row.attack, LEAST_CLASSES)
    for key in row.options:
        if key != "eot_iter":
            raise unknown(f"option of '{row.name}'", key, ("eot_iter",))


def _autoattack(
    victim: Victim, images: Tensor, labels: Tensor, row: AttackSpec, threat: Threat, seed: int
) -> Crafted:
    from robust_snn.adapters.autoattack import autoattack

    result = autoattack(
        victim,
        images,
        labels,
        threat.eps,
        threat.norm,
        attacks=[row.attack],
        n_iter=row.steps,
        n_queries=row.steps,
        restarts=row.restarts,
        batch_size=len(images),
        seed=seed,
        **row.options,
    )
    candidates = (result.images,) if result.hardest is None else (result.images, result.hardest)
    return Crafted(candidates, result.survived, result.warnings)


def _least_classes_autoattack(row: AttackSpec) -> int:
    from robust_snn.adapters.autoattack import LEAST_CLASSES

    return LEAST_CLASSES[row.attack]


def _check_torchattacks(row: AttackSpec, threat: Threat) -> None:
    from robust_snn.adapters.torchattacks import parameters

    accepted = parameters(row.attack)
    if "eps" not in accepted:
        raise InputError(f"'{row.name}': torchattacks' {row.attack} cannot be held to an eps")
    native = "L2" if row.attack.endswith("L2") else "Linf"
    if "norm" not in accepted and native != threat.norm:
        raise InputError(
            f"'{row.name}': torchattacks' {row.attack} perturbs in {native}, not {threat.norm}"
        )
    for key in row.options:
        if key not in accepted:
            raise unknown(f"option of '{row.name}'", key, accepted)
    if row.restarts is not None and "n_restarts" not in accepted:
        raise InputError(f"'{row.name}': torchattacks' {row.attack} has no restarts")
    if row.steps is not None and not {"steps", "n_queries"} & set(accepted):
        raise InputError(f"'{row.name}': torchattacks' {row.attack} has no steps")


def _torchattacks(
    victim: Victim, images: Tensor, labels: Tensor, row: AttackSpec, threat: Threat, seed: int
) -> Crafted:
    """Without a step size in the row, the library's own, in proportion to eps."""
    import torchattacks

    from robust_snn.adapters.torchattacks import attack

    accepted = signature(getattr(torchattacks, row.attack)).parameters
    steps = "n_queries" if "n_queries" in accepted else "steps"
    settings = {"n_restarts": row.restarts, steps: row.steps}
    arguments: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    arguments["eps"] = threat.eps
    if "norm" in accepted:
        arguments["norm"] = threat.norm
    if "alpha" in accepted:
        arguments["alpha"] = accepted["alpha"].default * threat.eps / accepted["eps"].default
    craft = attack(victim, row.attack, seed=seed, **(arguments | row.options))
    adversarial = craft(images, labels)
    with torch.no_grad():
        claimed_robust = victim(adversarial).argmax(1) == labels
    return Crafted((adversarial,), claimed_robust)


def _options(row: AttackSpec) -> dict[str, Any]:
    """The options of an attack of ours: the row's own, and its steps and restarts."""
    given = {"steps": row.steps, "restarts": row.restarts}
    return {key: value for key, value in given.items() if value is not None} | row.options


def _check_own(row: AttackSpec, threat: Threat) -> None:
    from robust_snn.attacks import check_attack

    check_attack(row.attack, threat.norm, _options(row))


def _own(
    victim: Victim, images: Tensor, labels: Tensor, row: AttackSpec, threat: Threat, seed: int
) -> Crafted:
    from robust_snn.attacks import ATTACKS

    return _crafted(ATTACKS[row.attack], victim, images, labels, row, threat, seed)


def _crafted(
    attack: Callable[..., Any],
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    row: AttackSpec,
    threat: Threat,
    seed: int,
) -> Crafted:
    """What an attack of ours makes under a row and a threat."""
    made = attack(
        victim, images, labels, eps=threat.eps, norm=threat.norm, seed=seed, **_options(row)
    )
    return Crafted((made.images,), made.survived)


def _least_classes_own(row: AttackSpec) -> int:
    from robust_snn.attacks import least_classes

    return least_classes(row.attack, row.options)


def _check_events(row: AttackSpec, threat: Threat) -> None:
    from robust_snn.attacks import check_event_attack

    check_event_attack(row.attack, threat.norm, _options(row))


def _events(
    victim: Victim, images: Tensor, labels: Tensor, row: AttackSpec, threat: Threat, seed: int
) -> Crafted:
    from robust_snn.attacks import EVENT_ATTACKS

    return _crafted(EVENT_ATTACKS[row.attack], victim, images, labels, row, threat, seed)


def _check_corruption(row: AttackSpec, threat: Threat) -> None:
    corruption(row.attack, row.options)


def _corrupt(
    victim: Victim, images: Tensor, labels: Tensor, row: AttackSpec, threat: Threat, seed: int
) -> Crafted:
    """Nothing is crafted: each score corrupts afresh. The claim is one draw's."""
    judge, batch_size = _judge(victim, row), len(images)
    right = correct(judge, images, labels, draws=1, purpose="claim", batch_size=batch_size)
    return Crafted((images,), right[:, 0])


def _judge(victim: Victim, row: AttackSpec) -> Victim:
    return Corrupted(victim, corruption(row.attack, row.options))


IMPLEMENTATIONS = {
    "robust_snn": Implementation("robust_snn", _check_own, _own, _least_classes_own, events=True),
    "events": Implementation(
        "robust_snn", _check_events, _events, lambda row: 2, events=True, norms=("L0", "Linf")
    ),
    "corruption": Implementation(
        "robust_snn",
        _check_corruption,
        _corrupt,
        lambda row: 2,
        events=True,
        norms=NORMS,
        judge=_judge,
    ),
    "autoattack": Implementation(
        "pyautoattack", _check_autoattack, _autoattack, _least_classes_autoattack
    ),
    "torchattacks": Implementation(
        "torchattacks",
        _check_torchattacks,
        _torchattacks,
        lambda row: 4 if row.attack == "APGDT" else 2,
    ),
}
