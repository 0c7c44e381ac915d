"""Attacks of ART and foolbox as rows of a suite, each held to the budget of the threat.

    - {name: hop-skip-jump, implementation: art, attack: HopSkipJump, eot: 20, steps: 20}

A library that minimises a distance may go beyond eps. Such an image is no success under the threat:
the clean one stands in for it, and the row's warning says how many there were.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.adapters._crafting import Craft
from robust_snn.attacks.norm_ball import where_images
from robust_snn.eval.protocol.implementation import Crafted, CraftInputs, Implementation
from robust_snn.eval.protocol.library_options import (
    FROM_THREAT,
    check_budget_options,
    check_options,
    library_steps,
    naming_options,
)
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.threat_model import NORM_TOLERANCE, Threat
from robust_snn.utils.errors import InputError, unknown
from robust_snn.victim import Victim

TWO_NORMS = {"HopSkipJump": ("Linf", "L2")}  # what ART's own check says only once it runs
ART_NORMS = {"Linf": np.inf, "L2": 2, "L1": 1}


def _art(victim: Victim, row: AttackSpec, threat: Threat, seed: int) -> Craft:
    from robust_snn.adapters import art

    _known("ART", row, art.ATTACKS, art.EXCLUDED)
    accepted = signature(getattr(art.evasion, row.attack).__init__).parameters
    given: dict[str, Any] = {"max_iter": row.steps, "num_random_init": row.restarts}
    given = {name: value for name, value in given.items() if value is not None}
    for name, setting in (("max_iter", "steps"), ("num_random_init", "restarts")):
        if name in given and name not in accepted:
            raise InputError(f"'{row.name}': ART's {row.attack} has no {setting} ({name})")
    _check_options("ART", row, accepted)
    if row.attack in TWO_NORMS and threat.norm not in TWO_NORMS[row.attack]:
        raise InputError(f"'{row.name}': ART's {row.attack} knows no norm {threat.norm}")
    if "eps" in accepted:
        given["eps"] = threat.eps
        if "eps_step" in accepted:  # the library's own, in proportion to eps
            share = accepted["eps_step"].default / accepted["eps"].default
            given["eps_step"] = share * threat.eps
    if "norm" in accepted:
        given["norm"] = ART_NORMS[threat.norm]
    arguments = {**given, **row.options}
    return art.attack(victim, row.attack, seed=seed, noise=_policy(row), **arguments)


def _foolbox(victim: Victim, row: AttackSpec, threat: Threat, seed: int) -> Craft:
    import foolbox as library

    from robust_snn.adapters import foolbox

    _known("foolbox", row, foolbox.ATTACKS, foolbox.EXCLUDED)
    kind = getattr(library.attacks, row.attack)
    accepted = signature(kind.__init__).parameters
    given: dict[str, Any] = {} if row.steps is None else {"steps": row.steps}
    for setting in ("steps", "restarts"):
        if getattr(row, setting) is not None and setting not in accepted:
            raise InputError(f"'{row.name}': foolbox's {row.attack} has no {setting}")
    _check_options("foolbox", row, accepted)
    distances = library.distances
    by_norm = {"Linf": distances.linf, "L2": distances.l2, "L1": distances.l1, "L0": distances.l0}
    if "distance" in accepted:
        given["distance"] = by_norm[threat.norm]
    arguments = {**given, **row.options}
    own = getattr(kind(**arguments), "distance", None)
    if own is not None and own != by_norm[threat.norm]:
        raise InputError(f"'{row.name}': foolbox's {row.attack} perturbs in another norm ({own})")
    eps = None if row.attack.startswith(foolbox.UNBOUNDED) else threat.eps
    return foolbox.attack(victim, row.attack, eps, seed=seed, noise=_policy(row), **arguments)


def _known(library: str, row: AttackSpec, names: tuple[str, ...], excluded: dict[str, str]) -> None:
    if row.attack in excluded:
        raise InputError(f"{library}'s {row.attack} cannot run here: {excluded[row.attack]}")
    if row.attack not in names:
        raise unknown(f"{library} attack in '{row.name}'", row.attack, names)


def _check_options(library: str, row: AttackSpec, accepted: Any) -> None:
    check_budget_options(row)
    known = [name for name in accepted if name not in (*FROM_THREAT, "self", "estimator")]
    for name in row.options:
        if name not in known:
            raise unknown(f"option of {library}'s {row.attack} in '{row.name}'", name, known)
    check_options(row, accepted)


def _policy(row: AttackSpec) -> str | None:
    """The row's noise policy; the adapter's choice where it is the usual one."""
    return None if row.noise == "fresh" else row.noise


def _art_steps(row: AttackSpec) -> int | None:
    from art.attacks import evasion

    return library_steps(row, getattr(evasion, row.attack))


def _foolbox_steps(row: AttackSpec) -> int | None:
    import foolbox

    return library_steps(row, getattr(foolbox.attacks, row.attack))


def _implementation(
    package: str,
    norms: tuple[str, ...],
    make: Callable[[Victim, AttackSpec, Threat, int], Craft],
    steps: Callable[[AttackSpec], int | None],
) -> Implementation:
    def check(row: AttackSpec, threat: Threat) -> None:
        with naming_options(package, row):
            make(Victim(torch.nn.Flatten()), row, threat, 0)

    def craft(asked: CraftInputs) -> Crafted:
        victim, images, labels, row, threat, _, _, seed = asked
        with naming_options(package, row):
            made = make(victim, row, threat, seed)(images, labels).detach().float()
        made, beyond = held_to_budget(made, images, threat)
        message = f"{beyond} of {len(images)} images lay beyond eps and count as not attacked"
        if not beyond and torch.equal(made, images):
            message = f"none of {len(images)} images was changed"
            beyond = len(images)
        warnings = (f"{row.name}: {message}",) if beyond else ()
        with torch.no_grad():
            return Crafted((made,), victim(made).argmax(1) == labels, warnings)

    return Implementation(package, check, craft, lambda row: 2, norms=norms, steps=steps)


def held_to_budget(made: Tensor, images: Tensor, threat: Threat) -> tuple[Tensor, int]:
    """The images within the threat, the clean ones in place of others, and how many those are.

    What rounding alone carries over the radius is cut to it in Linf.
    """
    made = torch.nan_to_num(made, nan=-1.0)
    if threat.norm == "Linf":
        close = threat.distance(made, images) <= threat.eps + 100 * NORM_TOLERANCE
        cut = torch.maximum(torch.minimum(made, images + threat.eps), images - threat.eps)
        made = where_images(close, cut, made)
    outside = threat.distance(made, images) > threat.eps + NORM_TOLERANCE
    outside |= ((made < 0) | (made > 1)).flatten(1).any(1)
    kept = where_images(outside, images, made)
    return kept, int(outside.sum())


ART = _implementation("adversarial-robustness-toolbox", ("Linf", "L2", "L1"), _art, _art_steps)
FOOLBOX = _implementation("foolbox", ("Linf", "L2", "L1", "L0"), _foolbox, _foolbox_steps)
