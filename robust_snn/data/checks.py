"""Checks of images and labels before any attack starts."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError


def check_images(images: Tensor, labels: Tensor, *, in_chans: int, num_classes: int | None) -> None:
    """Raises `InputError` unless the images and labels suit a model.

    Args:
        images: `[B, C, H, W]`, or event frames `[B, T, C, H, W]`: floats in [0, 1].
        labels: `[B]`, integers in [0, `num_classes`).
        in_chans: Channels that the model takes.
        num_classes: Number of classes of the model; None where that is not known yet, and
            `check_labels` comes later.
    """
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name} must be a torch.Tensor, got {type(value).__name__}; use torch.as_tensor"
            )
    shape = tuple(images.shape)
    if images.ndim not in (4, 5):
        raise InputError(f"images must be [B, C, H, W] or [B, T, C, H, W], got shape {shape}")
    if not images.numel():
        raise InputError(f"no images to work on: got shape {shape}")
    if not images.is_floating_point():
        raise InputError(
            f"pixels must be floats in [0, 1], got {images.dtype}; divide bytes by 255"
        )
    if shape[-3] != in_chans:
        raise InputError(
            f"the model takes {in_chans} channels, the images have {shape[-3]} (shape {shape}); "
            f"build the model with in_chans={shape[-3]} or choose other data"
        )
    _check_pixels(images)
    if num_classes is not None:
        check_labels(labels, len(images), num_classes)


def _check_pixels(images: Tensor) -> None:
    low, high = (bound.item() for bound in images.detach().aminmax())
    if low >= 0 and high <= 1:  # false for NaN, which aminmax passes on
        return
    for name, wrong in (("NaN", images.isnan()), ("infinite", images.isinf())):
        if wrong.any():
            first = int(wrong.flatten(1).any(1).nonzero()[0])
            raise InputError(
                f"{int(wrong.sum())} {name} pixels, first in image {first}; "
                "repair or remove these images"
            )
    raise InputError(
        f"pixels must lie in [0, 1], got {low:.6g} to {high:.6g}; divide bytes by 255, "
        "and leave normalisation to the model"
    )


def attackable(images: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images as they are, and labels as int64, for an attack that checks nothing itself.

    Raises:
        InputError: If the pixels or the labels are none that an attack could use.
    """
    if len(images):
        check_images(images, labels, in_chans=images.shape[-3], num_classes=num_classes)
    return images, labels.long()


def check_labels(labels: Tensor, count: int, num_classes: int) -> None:
    """Raises `InputError` unless the labels `[B]` are `count` integers in [0, `num_classes`)."""
    shape = tuple(labels.shape)
    if shape != (count,):
        ways = {1: "; use labels.flatten()", num_classes: "; use labels.argmax(1)"}
        way = ways.get(shape[1], "") if labels.ndim == 2 and shape[0] == count else ""
        raise InputError(f"{count} images need labels of shape ({count},), got {shape}{way}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels must be integers, got {labels.dtype}; use labels.long()")
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"labels must lie in 0..{num_classes - 1} for {num_classes} classes, "
            f"got {low} to {high}; check the data or the model's num_classes"
        )
