"""Settings of a recipe that would change nothing: a card must not say what was not done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robust_snn.training.perturb import PERTURBATIONS, phases
from robust_snn.training.training_losses import TASK_LOSSES
from robust_snn.utils.errors import InputError

NO_GRADIENT = ("none", "gaussian", "gaussian_released")  # perturbations that follow none
RANDOM_STEP = ("rfgsm", "rfgsm_released")
ITERATED = ("pgd", "universal")


def idle_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """The settings that would change nothing beside the others, whatever they are.

    Args:
        values: All fields of a recipe.

    Returns:
        What each of them needs.

    Raises:
        InputError: If `perturbation` is none.
    """
    kinds = {kind for kind, _ in phases(values["perturbation"])}
    follows = bool(kinds - {*NO_GRADIENT})
    gradient = "a perturbation that follows a gradient, such as perturbation=fgsm"
    needs = (
        ("alpha", bool(kinds & {*RANDOM_STEP, *ITERATED}), "perturbation=rfgsm or pgd"),
        ("steps", bool(kinds & {*ITERATED}), "perturbation=pgd"),
        ("gradient", follows, gradient),
        ("eot", follows, gradient),
        ("perturbation_precision", follows, gradient),
        ("distance", values["rho"] > 0, "a rho above 0"),
        ("guard_kind", values["guard"] > 0, "a guard above 0"),
        ("guard_margin", values["guard"] > 0, "a guard above 0"),
        ("sr_squared", values["sr"] > 0, "an sr above 0"),
        ("tet_weight", values["loss"] == "tet", "loss=tet"),
        ("momentum", values["optimizer"] == "sgd", "optimizer=sgd"),
        ("check_eps", values["check_every"] > 0, "a check_every above 0"),
        ("gate_penalty", values["gate_share"] > 0, "a gate_share above 0"),
        ("gate_opening", values["gate_share"] > 0, "a gate_share above 0"),
    )
    return {name: need for name, met, need in needs if not met}


def check_effects(
    values: Mapping[str, Any], defaults: Mapping[str, Any], epochs: int, where: str
) -> None:
    """Refuses settings that would change nothing.

    Args:
        values: All fields of a recipe.
        defaults: Their values where they are left out.
        epochs: Epochs of the training.
        where: What messages call the recipe.

    Raises:
        InputError: If there is such a setting; the message says what it needs.
    """
    for message in _idle_parts(values, epochs):
        raise InputError(message.format(where=where))
    for name, need in idle_settings(values).items():
        if values[name] != defaults[name]:
            raise InputError(f"{name} {where} does nothing without {need}: leave it out")


def _idle_parts(values: Mapping[str, Any], epochs: int) -> Iterator[str]:
    """What is wrong with perturbations that are none, and with what needs one."""
    changes = phases(values["perturbation"])
    perturbed = [kind for kind, _ in changes if kind != "none"]
    eps, alpha = values["eps"], values["alpha"]
    if perturbed and not eps:
        yield (
            f"perturbation {{where}} is {perturbed[0]}, but eps is 0, which is no perturbation; "
            "give eps, such as 8/255, or perturbation=none"
        )
    bounded = ("eps",) if values["certified"] else ()
    idle = [n for n in ("eps", "rho", "trades", "clean_share") if values[n] and n not in bounded]
    if bounded and not eps:
        yield "certified {where} does nothing where eps is 0: give eps, such as 2/255"
    if not perturbed and idle:
        yield (
            f"{idle[0]} {{where}} does nothing without a perturbation: give one, such as "
            f"perturbation=fgsm, or {idle[0]}=0"
        )
    if values["clean_share"] == 1 and not (values["rho"] or values["guard"]):
        yield (
            f"perturbation {{where}} is {perturbed[0]}, but does nothing where clean_share is 1: "
            "give a smaller one, or rho"
        )
    if alpha == 0 and {*perturbed} & {*RANDOM_STEP, *ITERATED}:
        yield "alpha {where} is 0, which is no step: leave it out, or give perturbation=fgsm"
    if alpha is not None and alpha == eps and "rfgsm" in perturbed:
        yield "alpha {where} is eps, which leaves no step along the gradient: give a smaller one"
    if values["certified"] == 1 and epochs <= 2 and (perturbed or values["sr"]):
        other = "perturbation" if perturbed else "sr"
        yield (
            f"{other} {{where}} does nothing where certified is 1 in all of {epochs} epochs: give "
            "a smaller certified, or more epochs"
        )
    if values["gate_share"] > 0 and not round(values["gate_share"] * epochs):
        yield (
            f"gate_share {{where}} is {values['gate_share']:g}, which is no whole one of {epochs} "
            "epochs: give a larger one, or 0 for gates that do not learn"
        )
    if TASK_LOSSES[values["loss"]].one_step and not {*perturbed} - {*NO_GRADIENT}:
        yield (
            f"loss {{where}} is {values['loss']}, which is about perturbations along a gradient: "
            "give one, such as perturbation=fgsm, or loss=tet tet_weight=0"
        )
    if values["check_every"] and not values["check_eps"]:
        yield "check_every {where} does nothing where check_eps is 0: give check_eps"
    kind, first = changes[-1]
    if first > epochs:
        yield (
            f"{kind}@{first} {{where}} never begins in {epochs} epochs; leave it out, or give "
            "more epochs"
        )
    for (before, _), (kind, first) in zip(changes, changes[1:], strict=False):
        if before == kind:
            yield f"{kind}@{first} {{where}} does nothing after {before}: leave it out"


assert {*NO_GRADIENT, *RANDOM_STEP, *ITERATED} <= {*PERTURBATIONS}
