"""What every entry point checks before it starts: a victim, images and labels that fit together.

Attacks, adapters, scoring, diagnostics and the evaluation all ask here, once per call, so that a
wrong input is refused with the same words everywhere, before anything is attacked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from robust_snn.data.checks import check_labels, check_pixels
from robust_snn.data.lazy_images import Images
from robust_snn.utils.errors import InputError, first_line, is_out_of_memory
from robust_snn.utils.modules import device_of, evaluating, unlike_images
from robust_snn.victim.victim import Victim

SHOWN = 8  # images on disk that a network is tried on
ASKED = 2  # images on which a network is tried: one would not tell [B, K] from [1, K]


class CheckedInputs(NamedTuple):
    """Images and labels that suit a victim.

    Attributes:
        images: `[B, C, H, W]` in [0, 1], as they came.
        labels: `[B]`, int64.
        classes: Number of classes `K` of the victim.
    """

    images: Tensor
    labels: Tensor
    classes: int


def checked_inputs(victim: Victim, images: Tensor, labels: Tensor) -> CheckedInputs:
    """Checks what an entry point is given; it costs a pass of two images, which is not counted.

    Args:
        victim: The victim.
        images: `[B, C, H, W]`, or event frames `[B, T, C, H, W]`; `B` may be 0.
        labels: `[B]`.

    Raises:
        InputError: If the victim is none, the pixels or labels are none that it could be asked
            about, or its logits are not `[B, K]`, finite, of two classes or more.
    """
    check_victim(victim)
    check_pixels(images)
    classes = count_classes(victim, images)
    check_labels(labels, len(images), classes)
    return CheckedInputs(images, labels.long(), classes)


def first_images(images: Images) -> Tensor:
    """All images in memory, and the first of those on disk, which are checked as they are read."""
    return images if isinstance(images, Tensor) else images[:SHOWN]


def checked_set(victim: Victim, images: Images, labels: Tensor) -> tuple[Tensor, int]:
    """Checks a set as `checked_inputs` does, which may lie on disk; returns labels and classes."""
    if isinstance(images, Tensor):
        return checked_inputs(victim, images, labels)[1:]
    if getattr(labels, "shape", None) != (len(images),):
        check_labels(labels, len(images), 2)  # which says what is wrong
    _, _, classes = checked_inputs(victim, first_images(images), labels[:SHOWN])
    check_labels(labels, len(images), classes)
    return labels.long(), classes


def check_victim(victim: Any) -> None:
    """Raises `InputError` unless it is a `Victim`."""
    if not isinstance(victim, Victim):
        raise InputError(
            f"expected a Victim, got {type(victim).__name__}; use robust_snn.adapt(net)"
        )


def count_classes(victim: Victim, images: Tensor) -> int:
    """Number of classes `K`, read off the logits of the first images `[B, C, H, W]`.

    It costs a pass, which is not counted as the victim's; where logits are at hand, read theirs.

    Raises:
        InputError: If the network cannot take the images, or its logits are no classifier's.
    """
    some = images[:ASKED].to(device_of(victim, images))
    try:
        with evaluating(victim):
            logits = victim.replace().sample(some, torch.arange(len(some), device=some.device))
    except InputError:
        raise
    except Exception as error:  # whatever a network of other people does
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{type(victim.net).__name__} cannot take images of shape {tuple(images.shape[1:])}, "
            f"{len(some)} at once: {first_line(error)}{unlike_images(victim.net)}"
        ) from error
    if logits.is_meta:
        without = "has logits without values"
        raise InputError(f"{type(victim.net).__name__} {without}{unlike_images(victim.net)}")
    check_finite(logits)
    classes = logits.shape[-1]
    if getattr(victim.net, "num_classes", None) == 0:
        raise InputError(
            f"{type(victim.net).__name__} was built with num_classes=0: it gives {classes} "
            "features, not the logits of classes"
        )
    if classes < 2:
        raise InputError(
            f"{type(victim.net).__name__} has {classes} logits per image, a classifier one for "
            "every class; of a single logit z for two classes, make [-z, z]"
        )
    return classes


def steps_refusal(victim: Victim, images: Tensor) -> str | None:
    """Why a victim cannot show the logits of every step, tried on two images; None if it can."""
    some = images[:ASKED].to(device_of(victim, images))
    try:
        with evaluating(victim), torch.no_grad():
            victim.replace(output="steps", eot=1)(some)
    except InputError as error:
        return str(error)
    return None


def check_finite(logits: Tensor) -> None:
    """Raises `InputError` unless all logits are finite."""
    if not logits.isfinite().all():
        raise InputError(
            "the victim's logits are not finite; check its weights, and whether it divides by what "
            "an attack can make zero"
        )
