"""torchattacks: `attack(victim, "PGD", eps=8/255)` gives a function of images and labels.

Works with an installation by `pip install --no-deps torchattacks`, which spares you the old
versions of other libraries that it pins.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from robust_snn.adapters._caller import count_classes, undisturbed
from robust_snn.errors import missing_extra, unknown
from robust_snn.kernels import derive_seed
from robust_snn.victim import Victim

try:
    import torchattacks
except ImportError as error:
    raise missing_extra("torchattacks", "torchattacks") from error

ATTACKS = tuple(name for name in torchattacks.__all__ if name not in torchattacks.__wrapper__)


def parameters(name: str) -> tuple[str, ...]:
    """Names of the arguments that an attack takes.

    Raises:
        InputError: If torchattacks has no attack of that name.
    """
    if name not in ATTACKS:
        raise unknown("torchattacks attack", name, ATTACKS)
    return tuple(signature(getattr(torchattacks, name)).parameters)[1:]


def attack(
    victim: Victim, name: str, *, seed: int = 0, **arguments: Any
) -> Callable[[Tensor, Tensor], Tensor]:
    """Makes an attack of torchattacks that leaves victim, mode and global generators as they were.

    Args:
        victim: What to attack; its `eot` and `noise` are what the attack sees.
        name: Name of a torchattacks class, such as `"PGD"`.
        seed: Seed of the attack. Call `i` of the result has random numbers of its own.
        **arguments: Arguments of the class; `n_classes` defaults to the victim's number of classes.

    Returns:
        A function of images `[N, C, H, W]` in [0, 1] and labels `[N]` that returns adversarial
        images, detached.

    Raises:
        InputError: If the attack or an argument is not known.
    """
    accepted = parameters(name)
    for argument in arguments:
        if argument not in accepted:
            raise unknown(f"argument of {name}", argument, accepted)
    calls = 0

    def craft(images: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        stream, calls = derive_seed(seed, calls), calls + 1
        defaults: dict[str, Any] = {"seed": stream}
        if "n_classes" in accepted:
            defaults["n_classes"] = count_classes(victim, images)
        chosen = {k: v for k, v in defaults.items() if k in accepted} | arguments
        with undisturbed(victim):
            torch.manual_seed(stream)
            adversarial = getattr(torchattacks, name)(victim, **chosen)(images, labels)
        return adversarial.detach().to(images.device)

    return craft
