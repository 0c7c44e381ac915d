"""Checks of images and labels before anything is made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.utils.argument_types import way_to_a_tensor
from robust_snn.utils.errors import InputError

PIXEL_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OVERSHOOT = 1e-5  # of pixels, by attacks that work in other coordinates


def check_images(images: Tensor, labels: Tensor, *, in_chans: int, num_classes: int | None) -> None:
    """Raises `InputError` unless the images and labels suit a model.

    Args:
        images: `[B, C, H, W]`, or event frames `[B, T, C, H, W]`: floats in [0, 1].
        labels: `[B]`, integers in [0, `num_classes`).
        in_chans: Channels that the model takes.
        num_classes: Number of classes of the model; None where that is not known yet, and
            `check_labels` comes later.
    """
    check_some_pixels(images)
    _check_tensor("labels", labels)
    if images.shape[-3] != in_chans:
        raise InputError(
            f"the model takes {in_chans} channels, the images have {images.shape[-3]} (shape "
            f"{tuple(images.shape)}); build the model with in_chans={images.shape[-3]} or choose "
            "other data"
        )
    if num_classes is not None:
        check_labels(labels, len(images), num_classes)


def check_some_pixels(images: Tensor) -> None:
    """Raises `InputError` unless there are images, and `check_pixels` lets them pass."""
    check_pixels(images)
    if not len(images):
        raise InputError(f"no images to work on: got shape {tuple(images.shape)}")


def check_pixels(images: Tensor) -> None:
    """Raises `InputError` unless images `[B, C, H, W]` or `[B, T, C, H, W]` are floats in [0, 1].

    No image at all passes, `[0, C, H, W]`.
    """
    _check_tensor("images", images)
    shape = tuple(images.shape)
    if images.ndim not in (4, 5):
        raise InputError(f"images must be [B, C, H, W] or [B, T, C, H, W], got shape {shape}")
    if images.dtype not in PIXEL_TYPES:
        raise InputError(f"pixels must be floats in [0, 1], got {images.dtype}; {_scaled(images)}")
    if not len(images):
        return
    if not images.numel():
        raise InputError(f"images without pixels: got shape {shape}")
    low, high = (bound.item() for bound in images.detach().aminmax())
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:  # false for NaN, which aminmax passes on
        return
    for name, wrong in (("NaN", images.isnan()), ("infinite", images.isinf())):
        if wrong.any():
            first = int(wrong.flatten(1).any(1).nonzero()[0])
            raise InputError(
                f"{int(wrong.sum())} {name} pixels, first in image {first}; "
                "repair or remove these images"
            )
    raise InputError(
        f"pixels must lie in [0, 1], got {low:.6g} to {high:.6g}; {_scaled(images)}, "
        "and leave normalisation to the model"
    )


def _scaled(images: Tensor) -> str:
    """How pixels come to lie in [0, 1]."""
    if images.ndim == 4:
        return "divide bytes by 255"
    return (
        "divide counts of events by 255, so that 1/255 is one event, and give a network that was "
        "trained on counts these again: adapt(net, mean=0, std=1/255)"
    )


def check_labels(labels: Tensor, count: int, num_classes: int) -> None:
    """Raises `InputError` unless the labels `[B]` are `count` integers in [0, `num_classes`)."""
    _check_tensor("labels", labels)
    shape = tuple(labels.shape)
    if shape != (count,):
        ways = {1: "; use labels.flatten()", num_classes: "; use labels.argmax(1)"}
        way = ways.get(shape[1], "") if labels.ndim == 2 and shape[0] == count else ""
        raise InputError(f"{count} images need labels of shape ({count},), got {shape}{way}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels must be integers, got {labels.dtype}; use labels.long()")
    if not count:
        return
    low, high = (int(bound) for bound in labels.long().aminmax())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"labels must lie in 0..{num_classes - 1} for {num_classes} classes, "
            f"got {low} to {high}; check the data or the model's num_classes"
        )


def _check_tensor(name: str, value: Any) -> None:
    """Raises `InputError` unless a value is a tensor that holds its numbers one by one."""
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name} must be a torch.Tensor, got {type(value).__name__}; {way_to_a_tensor(value)}"
        )
    if value.layout != torch.strided:
        raise InputError(f"{name} must be a dense tensor, got {value.layout}; use .to_dense()")
    if value.is_meta:
        raise InputError(f"{name} are on the device 'meta', which holds no numbers")
    if value.is_quantized:
        raise InputError(f"{name} must not be quantised; use .dequantize()")
