"""An attack of a library as a seeded function of images and labels that touches nothing else."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_snn.attacks.norm_ball import where_images
from robust_snn.data.checks import OVERSHOOT
from robust_snn.kernels import derive_seed
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of, global_generators, undisturbed
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import CheckedInputs, check_victim, checked_inputs

Craft = Callable[[Tensor, Tensor], Tensor]
_log = logging.getLogger("robust_snn")


@dataclass
class SeededAttack:
    """An attack of a library as a function that leaves the caller's process alone.

    The images go to the victim's device, and the crafted ones come back to where the images were.
    Call `i` of the attack has random numbers of its own, and starts the statistics of the victim's
    gradient mode anew. What `checked_inputs` refuses is not attacked. What an attack makes that is
    no image is left out; see `made_images`. It can be pickled where `craft` can.

    Attributes:
        victim: What is attacked.
        seed: Seed of all calls.
        craft: Makes images of the victim, checked inputs and the seed of a call.
        calls: How often it was called.
    """

    victim: Victim
    seed: int
    craft: Callable[[Victim, CheckedInputs, int], Tensor]
    calls: int = 0

    def __post_init__(self) -> None:
        self.seed = whole(self.seed, "seed")

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        images, labels, classes = checked_inputs(self.victim, images, labels)
        stream, self.calls = derive_seed(self.seed, self.calls), self.calls + 1
        device = device_of(self.victim, images)
        inputs = CheckedInputs(images.detach().to(device), labels.to(device), classes)
        self.victim.statistics.restart()
        with global_generators, undisturbed(self.victim), torch.enable_grad():
            random.seed(stream)
            np.random.seed(stream % 2**32)
            torch.manual_seed(stream)
            crafted = self.craft(self.victim, inputs, stream)
        return made_images(crafted.detach().to(images.device), images)


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
        made = where_images(finite, made, images.to(made))
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
