"""An attack of a library as a seeded function of images and labels that touches nothing else."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.checks import OVERSHOOT
from robust_snn.kernels import derive_seed
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of, global_generators, undisturbed
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import check_victim, checked_inputs

Craft = Callable[[Tensor, Tensor], Tensor]
_log = logging.getLogger("robust_snn")


def seeded(victim: Victim, seed: int, craft: Callable[[Tensor, Tensor, int], Tensor]) -> Craft:
    """Makes `craft(images, labels, stream)` an attack that leaves the caller's process alone.

    The images go to the victim's device, and the crafted ones come back to where the images were.
    Call `i` of the attack has random numbers of its own, whose seed is `stream`, and starts the
    statistics of the victim's gradient mode anew. What `checked_inputs` refuses is not attacked.
    What an attack makes that is no image is left out; see `made_images`.
    """
    calls, seed = 0, whole(seed, "seed")

    def attack(images: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        images, labels, _ = checked_inputs(victim, images, labels)
        stream, calls = derive_seed(seed, calls), calls + 1
        device = device_of(victim, images)
        victim.statistics.restart()
        with global_generators, undisturbed(victim), torch.enable_grad():
            random.seed(stream)
            np.random.seed(stream % 2**32)
            torch.manual_seed(stream)
            crafted = craft(images.detach().to(device), labels.to(device), stream)
        return made_images(crafted.detach().to(images.device), images)

    return attack


def made_images(made: Tensor, images: Tensor) -> Tensor:
    """What an attack made of `images`; the image itself where that holds NaN or infinity.

    Attacks divide by the length of a gradient, which may be zero. Rounding beyond [0, 1] is
    clipped, for attacks that work in other coordinates.

    Raises:
        InputError: If images have another shape than they had, or are outside of [0, 1].
    """
    if made.shape != images.shape:
        raise InputError(
            f"the attack made images {tuple(made.shape)} of images {tuple(images.shape)}"
        )
    if not len(made):
        return made
    finite = made.flatten(1).isfinite().all(1)
    if not finite.all():
        _log.warning("%d images of the attack hold NaN and stay clean", int((~finite).sum()))
        made = torch.where(finite.view(-1, *[1] * (made.dim() - 1)), made, images.to(made))
    low, high = (bound.item() for bound in made.aminmax())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise InputError(f"the attack made pixels from {low:.6g} to {high:.6g}, outside of [0, 1]")
    return made if low >= 0 and high <= 1 else made.clamp(0, 1)


def attacked_variant(victim: Victim, noise: str | None, search: bool) -> Victim:
    """The victim with the noise policy that suits an attack; its passes count as the victim's.

    A search compares calls with each other, so it sees the same draws in every call unless the
    caller chose a noise policy.

    Args:
        victim: The victim.
        noise: The caller's noise policy, if any.
        search: Whether the attack compares calls instead of following gradients.
    """
    check_victim(victim)
    if noise is None:
        noise = "frozen" if search and victim.noise == "fresh" else victim.noise
    return victim.replace(noise=noise, cost=victim.cost)
