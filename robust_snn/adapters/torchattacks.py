"""torchattacks: `attack(victim, "PGD", eps=8/255)` gives a function of images and labels.

Works with an installation by `pip install --no-deps torchattacks`, which avoids the old
versions of other libraries that it pins.
"""

from __future__ import annotations

import logging
from functools import partial
from inspect import signature
from typing import Any

from torch import Tensor

from robust_snn.adapters._crafting import Craft, SeededAttack, attacked_variant
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.utils.errors import InputError, missing_extra, unknown
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import CheckedInputs

try:
    import torchattacks
except ImportError as error:
    raise missing_extra("torchattacks", "torchattacks") from error

ATTACKS = tuple(name for name in torchattacks.__all__ if name not in torchattacks.__wrapper__)

# Attacks that compare calls of the victim, or follow its decision boundary.
SEARCHES = ("DeepFool", "FAB", "JSMA", "OnePixel", "Pixle", "SparseFool", "Square")
LEAST_CLASSES = {"APGDT": 4, "AutoAttack": 4}
CHANNELS = {"TIFGSM": 3}  # that its filter has, whatever the images
SQUARE = ("DIFGSM", "TIFGSM")  # which give images another height where they resize them
COUNT_ARGUMENTS = (
    "eot_iter",
    "max_iterations",
    "n_queries",
    "n_restarts",
    "nb_iter",
    "restarts",
    "steps",
)
LEAST = {"EADEN": 10, "EADL1": 10}  # with fewer iterations they divide by zero
_log = logging.getLogger("robust_snn")


def parameters(name: str) -> tuple[str, ...]:
    """Names of the arguments that an attack takes.

    Raises:
        InputError: If torchattacks has no attack of that name.
    """
    if name not in ATTACKS:
        raise unknown("torchattacks attack", name, ATTACKS)
    return tuple(signature(getattr(torchattacks, name)).parameters)[1:]


def attack(
    victim: Victim, name: str, *, seed: int = 0, noise: str | None = None, **arguments: Any
) -> Craft:
    """Makes an attack of torchattacks that leaves victim, mode and global generators as they were.

    Args:
        victim: What to attack; its `eot` is what the attack sees. An `eot_iter` of the attack
            comes on top: the draws per gradient are their product.
        name: Name of a torchattacks class, such as `"PGD"`.
        seed: Seed of the attack. Call `i` of the result has random numbers of its own.
        noise: Noise policy. By default the victim's, and `"frozen"` in place of `"fresh"` for
            attacks that compare calls with each other.
        **arguments: Arguments of the class; `n_classes` defaults to the victim's number of classes.

    Returns:
        A function of images `[N, C, H, W]` in [0, 1] and labels `[N]` that returns adversarial
        images, detached.

    Raises:
        InputError: If the attack or an argument is not known, or an argument is out of range.
    """
    accepted = parameters(name)
    for argument, value in arguments.items():
        if argument not in accepted:
            raise unknown(f"argument of {name}", argument, accepted)
        least = LEAST.get(name, 1) if argument == "max_iterations" else 1
        if argument in COUNT_ARGUMENTS:
            arguments[argument] = whole(value, f"{argument} of {name}", least)
    if "eps" in arguments:
        own = "L2" if name.endswith("L2") else "Linf"
        arguments["eps"] = checked_radius(arguments["eps"], arguments.get("norm", own))
    attacked = attacked_variant(victim, noise, name in SEARCHES)
    draws = arguments.get("eot_iter", 1) * attacked.eot
    if victim.stochastic and attacked.eot > 1 and arguments.get("eot_iter", 1) > 1:
        _log.info("%s averages %d draws: eot_iter times the victim's eot", name, draws)

    return SeededAttack(attacked, seed, partial(_craft, name, arguments))


def check_shape(name: str, images: Tensor) -> None:
    """Refuses images `[B, C, H, W]` of another shape than an attack is made for.

    Raises:
        InputError: Naming the attack.
    """
    channels, height, width = images.shape[-3:]  # of event frames, too, which are refused later
    if channels != CHANNELS.get(name, channels):
        raise InputError(
            f"{name} of torchattacks filters images of {CHANNELS[name]} channels, and these have "
            f"{channels}"
        )
    if name in SQUARE and height != width:
        raise InputError(f"{name} of torchattacks needs square images, got {height} x {width}")


def _craft(
    name: str, arguments: dict[str, Any], victim: Victim, inputs: CheckedInputs, stream: int
) -> Tensor:
    images, labels, classes = inputs
    check_shape(name, images)
    if classes < LEAST_CLASSES.get(name, 2):
        raise InputError(
            f"{name} of torchattacks needs at least {LEAST_CLASSES[name]} classes, the victim "
            f"has {classes}; robust_snn.adapters.autoattack takes any number"
        )
    defaults, accepted = {"seed": stream, "n_classes": classes}, parameters(name)
    chosen = {k: v for k, v in defaults.items() if k in accepted} | arguments
    engine = getattr(torchattacks, name)(victim, **chosen)
    if name == "JSMA":  # its untargeted mode aims at (label + 1) % 10, whatever the classes
        engine.set_mode_targeted_by_function(lambda _, labels: (labels + 1) % classes)
    return engine(images, labels)
