"""foolbox: `to_foolbox(victim)` for your own scripts, `attack(victim, "LinfPGD", eps=8/255)` here.

Averaging over draws is the victim's: foolbox's own wrapper keeps the graphs of all draws at once.
"""

from __future__ import annotations

from functools import partial
from inspect import isabstract, isclass, signature
from typing import Any

from torch import Tensor

from robust_snn.adapters._crafting import Craft, SeededAttack, attacked_variant
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.utils.errors import InputError, missing_extra, unknown
from robust_snn.utils.modules import device_of
from robust_snn.utils.values import number
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import CheckedInputs, check_victim

try:
    import foolbox
    from foolbox.attacks.base import Attack, MinimizationAttack
except ImportError as error:
    raise missing_extra("foolbox", "foolbox") from error

EXCLUDED = {"BinarizationRefinementAttack": "it refines images that another attack has made"}
ATTACKS = tuple(
    name
    for name, found in sorted(vars(foolbox.attacks).items())
    if isclass(found) and issubclass(found, Attack) and not isabstract(found)
    if name not in EXCLUDED
)
UNBOUNDED = ("L0", "Pointwise")  # foolbox cannot clip what these return to a radius
# Attacks that follow gradients; all others compare calls of the victim with each other.
GRADIENTS = ("PGD", "Gradient", "BasicIterative", "FGM", "FGSM", "Descent", "DDN", "Virtual", "FMN")


def to_foolbox(victim: Victim, **kwargs: Any) -> foolbox.PyTorchModel:
    """The victim as a foolbox model with bounds (0, 1), in eval mode, on the device where it is.

    Args:
        victim: What to attack. Give it `noise="frozen"` for attacks that compare calls, such as
            Boundary, HopSkipJump and Pointwise.
        **kwargs: More arguments of `foolbox.PyTorchModel`.
    """
    check_victim(victim)
    settings: dict[str, Any] = {"bounds": (0, 1), "device": device_of(victim)}
    return foolbox.PyTorchModel(victim.eval(), **(settings | kwargs))


def attack(
    victim: Victim,
    name: str,
    eps: float | None = None,
    *,
    seed: int = 0,
    noise: str | None = None,
    **arguments: Any,
) -> Craft:
    """Makes an attack of foolbox that leaves victim, mode and global generators as they were.

    Args:
        victim: What to attack; its `eot` is what the attack sees.
        name: Name of a foolbox class, such as `"LinfPGD"`.
        eps: Radius in the attack's own norm; None lets a minimising attack go as far as it needs.
        seed: Seed of the attack. Call `i` of the result has random numbers of its own.
        noise: Noise policy. By default the victim's, and `"frozen"` in place of `"fresh"` for
            attacks that compare calls with each other.
        **arguments: Arguments of the class; a `distance` is L2 by default.

    Returns:
        A function of images `[N, C, H, W]` in [0, 1] and labels `[N]` that returns adversarial
        images.

    Raises:
        InputError: If the attack or an argument is not known, or the attack needs an `eps`.
    """
    if name in EXCLUDED:
        raise InputError(f"{name} cannot run alone: {EXCLUDED[name]}")
    if name not in ATTACKS:
        raise unknown("foolbox attack", name, ATTACKS)
    kind = getattr(foolbox.attacks, name)
    accepted = [p for p in signature(kind.__init__).parameters if p not in ("self", "args")]
    for argument in arguments:
        if argument not in accepted:
            raise unknown(f"argument of {name}", argument, accepted)
    if eps is None and not issubclass(kind, MinimizationAttack) and name != "SpatialAttack":
        raise InputError(f"{name} needs eps, the radius of the ball that it fills")
    if eps is not None and name.startswith(UNBOUNDED):
        raise InputError(f"foolbox cannot hold {name} to a radius; leave eps out")
    if "distance" in accepted:
        arguments.setdefault("distance", foolbox.distances.l2)
    if eps is not None:
        eps = _radius(eps, kind(**arguments))
    attacked = attacked_variant(victim, noise, not any(part in name for part in GRADIENTS))

    return SeededAttack(attacked, seed, partial(_craft, name, eps, arguments))


def _craft(
    name: str,
    eps: float | None,
    arguments: dict[str, Any],
    victim: Victim,
    inputs: CheckedInputs,
    stream: int,
) -> Tensor:
    images, labels, classes = inputs
    criterion: Any = foolbox.Misclassification(labels)
    if name == "GenAttack":  # targeted only
        criterion = foolbox.TargetedMisclassification((labels + 1) % classes)
    engine, model = getattr(foolbox.attacks, name)(**arguments), to_foolbox(victim)
    if name == "DatasetAttack":
        engine.feed(model, images)
    try:
        made: Tensor = engine(model, images, criterion, epsilons=eps)[1]
        return made
    except ValueError as error:
        raise InputError(f"foolbox's {name} could not start: {error}") from error


def _radius(eps: Any, engine: Attack) -> float:
    """A radius that is plausible in the norm in which foolbox measures the attack."""
    order = getattr(getattr(engine, "distance", None), "p", None)
    norm = {"0": "L0", "1": "L1", "2": "L2", "inf": "Linf"}.get(str(order))
    return number(eps, "eps") if norm is None else checked_radius(eps, norm)
