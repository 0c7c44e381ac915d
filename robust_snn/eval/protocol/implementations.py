"""Implementations that a suite's rows can name: attacks of this package, libraries, a user."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from robust_snn import attacks
from robust_snn.attacks.threat_radius import NORMS
from robust_snn.eval.protocol.corruptions import Corrupted, corruption
from robust_snn.eval.protocol.given_images import GIVEN, given_implementation, is_given
from robust_snn.eval.protocol.implementation import (
    Crafted,
    CraftInputs,
    Implementation,
    given_settings,
)
from robust_snn.eval.protocol.library_attacks import ART, FOOLBOX
from robust_snn.eval.protocol.library_options import (
    check_budget_options,
    check_numbers,
    check_options,
    library_steps,
    naming_options,
)
from robust_snn.eval.protocol.suite import SOURCE, AttackSpec
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.protocol.user_attack import user_attack
from robust_snn.metrics import EnergyAttack
from robust_snn.neurons.noise_source import POLICIES
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.user_function import is_reference
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.scoring import correct


def implementation(row: AttackSpec) -> Implementation:
    """The implementation that a row names; a user's function is loaded, which runs its code.

    Raises:
        InputError: If there is none of that name.
    """
    if is_reference(row.implementation):
        return user_attack(row.implementation)
    if is_given(row):
        return given_implementation(row)
    if row.implementation not in IMPLEMENTATIONS:
        raise unknown(
            f"implementation of '{row.name}'", row.implementation, [*IMPLEMENTATIONS, GIVEN]
        )
    return IMPLEMENTATIONS[row.implementation]


def attacked_victim(victim: Victim, row: AttackSpec, seed: int) -> Victim:
    """The victim with the gradient mode, noise policy and draws that a row names.

    Raises:
        InputError: If the row's gradient mode or noise policy is not known.
    """
    gradient = row.gradient or victim.gradient
    return victim.replace(gradient=gradient, eot=row.eot, noise=row.noise, seed=seed)


def transferred_modes(row: AttackSpec) -> list[str]:
    """The gradient modes of the variants from which a row's attack transfers or starts."""
    own = row.implementation == "robust_snn"
    return [name for name in row.sources if own and name not in (SOURCE, *POLICIES)]


def _check_autoattack(row: AttackSpec, threat: Threat) -> None:
    from robust_snn.adapters.autoattack import LEAST_CLASSES

    if row.attack not in LEAST_CLASSES:
        raise unknown(f"AutoAttack attack in '{row.name}'", row.attack, LEAST_CLASSES)
    for key in row.options:
        if key != "eot_iter":
            raise unknown(f"option of '{row.name}'", key, ("eot_iter",))
        whole(row.options[key], f"{key} of '{row.name}'", 1)


def _check_autoattack_images(row: AttackSpec, images: Tensor, threat: Threat) -> None:
    from robust_snn.adapters._autoattack_run import check_rows

    check_rows(images, threat.norm, [row.attack])


def _autoattack(asked: CraftInputs) -> Crafted:
    from robust_snn.adapters.autoattack import autoattack

    row = asked.row
    result = autoattack(
        *asked[:3],
        asked.threat.eps,
        asked.threat.norm,
        attacks=[row.attack],
        n_iter=row.steps,
        n_queries=row.steps,
        restarts=row.restarts,
        batch_size=len(asked.images),
        seed=asked.batch_seed,
        **row.options,
    )
    candidates = (result.images,) if result.hardest is None else (result.images, result.hardest)
    return Crafted(candidates, ~result.success, result.warnings)


def _least_classes_autoattack(row: AttackSpec) -> int:
    from robust_snn.adapters.autoattack import LEAST_CLASSES

    return LEAST_CLASSES[row.attack]


def _check_torchattacks(row: AttackSpec, threat: Threat) -> None:
    import torchattacks

    from robust_snn.adapters.torchattacks import parameters

    accepted = parameters(row.attack)
    if "eps" not in accepted:
        raise InputError(f"'{row.name}': torchattacks' {row.attack} cannot be held to an eps")
    native = "L2" if row.attack.endswith("L2") else "Linf"
    if "norm" not in accepted and native != threat.norm:
        raise InputError(
            f"'{row.name}': torchattacks' {row.attack} perturbs in {native}, not {threat.norm}"
        )
    check_budget_options(row)
    for key in row.options:
        if key not in accepted:
            raise unknown(f"option of '{row.name}'", key, accepted)
    check_options(row, signature(getattr(torchattacks, row.attack)).parameters)
    if row.restarts is not None and "n_restarts" not in accepted:
        raise InputError(f"'{row.name}': torchattacks' {row.attack} has no restarts")
    if row.steps is not None and not {"steps", "n_queries"} & set(accepted):
        raise InputError(f"'{row.name}': torchattacks' {row.attack} has no steps")


def _least_classes_torchattacks(row: AttackSpec) -> int:
    from robust_snn.adapters.torchattacks import LEAST_CLASSES

    return LEAST_CLASSES.get(row.attack, 2)


def _check_torchattacks_images(row: AttackSpec, images: Tensor, threat: Threat) -> None:
    from robust_snn.adapters.torchattacks import check_shape

    check_shape(row.attack, images)


def _torchattacks_steps(row: AttackSpec) -> int | None:
    import torchattacks

    return library_steps(row, getattr(torchattacks, row.attack))


def _torchattacks(asked: CraftInputs) -> Crafted:
    """Without a step size in the row, the library's own, in proportion to eps."""
    import torchattacks

    from robust_snn.adapters.torchattacks import attack

    victim, images, labels, row, threat, _, _, seed = asked
    accepted = signature(getattr(torchattacks, row.attack)).parameters
    steps = "n_queries" if "n_queries" in accepted else "steps"
    settings = {"n_restarts": row.restarts, steps: row.steps}
    arguments: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    arguments["eps"] = threat.eps
    if "norm" in accepted:
        arguments["norm"] = threat.norm
    if "alpha" in accepted:
        arguments["alpha"] = accepted["alpha"].default * threat.eps / accepted["eps"].default
    with naming_options("torchattacks", row):
        craft = attack(victim, row.attack, seed=seed, **(arguments | row.options))
        adversarial = craft(images, labels)
    with torch.no_grad():
        claimed_robust = victim(adversarial).argmax(1) == labels
    return Crafted((adversarial,), claimed_robust)


def _of_ours(
    registry: Mapping[str, type[attacks.Attack]], norms: tuple[str, ...]
) -> Implementation:
    """The implementation of attacks of this package, by their names in rows."""

    def make(row: AttackSpec) -> attacks.Attack:
        if row.attack in registry:
            check_numbers(row, registry[row.attack].option_names())
        return attacks.make_attack(row.attack, given_settings(row), registry)

    def craft(asked: CraftInputs) -> Crafted:
        victim, images, labels, row, threat, seed, ids, _ = asked
        attack = make(row)
        if len(images) < attack.least_images:
            alone = f"{row.name}: {len(images)} image that no other was left to go with stays clean"
            return Crafted((images,), torch.ones_like(labels, dtype=torch.bool), (alone,))
        how: dict[str, Any] = {"eps": threat.eps, "norm": threat.norm, "seed": seed, "ids": ids}
        made = attack(victim, images, labels, **how)
        return Crafted((made.images,), ~made.success)

    return Implementation(
        "robust_snn",
        lambda row, threat: make(row).check_norm(threat.norm),
        craft,
        lambda row: make(row).least_classes,
        lambda row: make(row).least_images,
        lambda row, images, threat: make(row).check_inputs(images, threat.eps, threat.norm),
        events=True,
        norms=norms,
        settings=lambda row: make(row).settings(),
    )


def _check_corruption(row: AttackSpec, threat: Threat) -> None:
    corruption(row.attack, row.options)
    check_numbers(row, ())
    if threat.eps != 0:
        raise InputError(
            f"'{row.name}' corrupts at random, by its own options and within no radius: eps must "
            f"be 0, got {threat.eps:g}"
        )


def _corrupt(asked: CraftInputs) -> Crafted:
    """Nothing is crafted: each score corrupts afresh. The claim is one draw's."""
    _, images, labels, row = asked[:4]
    judge = _judge(asked.victim.replace(seed=asked.seed, cost=asked.victim.cost), row)
    how: dict[str, Any] = {"draws": 1, "purpose": "claim", "batch_size": len(images)}
    right = correct(judge, images, labels, ids=asked.ids, **how)
    return Crafted((images,), right[:, 0])


def _judge(victim: Victim, row: AttackSpec) -> Victim:
    return Corrupted(victim, corruption(row.attack, row.options))


def _only(kind: type[attacks.Attack]) -> Implementation:
    """The implementation of a single attack."""
    return _of_ours({kind.name: kind}, kind.norms)


OWN_BOUNDS = {"corruption", "spatial", "flow"}  # whose rows have some, of which eps says nothing
IMPLEMENTATIONS = {
    "robust_snn": _of_ours(attacks.ATTACKS, ("Linf", "L2", "L1")),
    "events": _of_ours(attacks.EVENT_ATTACKS, ("L0", "Linf")),
    "event-lists": _only(attacks.EventTimes),
    "universal": _only(attacks.Universal),
    "patch": _only(attacks.Patch),
    "spatial": _only(attacks.Spatial),
    "flow": _only(attacks.Flow),
    "per-step": _only(attacks.PerStep),
    "energy": _only(EnergyAttack),
    "corruption": Implementation(
        "robust_snn",
        _check_corruption,
        _corrupt,
        lambda row: 2,
        draws_together=lambda row: corruption(row.attack, row.options).draws_together,
        check_images=lambda row, x, _: corruption(row.attack, row.options).check_images(x),
        events=True,
        norms=NORMS,
        blind=lambda row: True,
        judge=_judge,
    ),
    "autoattack": Implementation(
        "pyautoattack",
        _check_autoattack,
        _autoattack,
        _least_classes_autoattack,
        check_images=_check_autoattack_images,
        norms=("Linf", "L2", "L1"),
    ),
    "art": ART,
    "foolbox": FOOLBOX,
    "torchattacks": Implementation(
        "torchattacks",
        _check_torchattacks,
        _torchattacks,
        _least_classes_torchattacks,
        check_images=_check_torchattacks_images,
        steps=_torchattacks_steps,
    ),
}
