"""Pictures as arrays and tensors."""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from robust_snn.data.checks import check_pixels

_log = logging.getLogger("robust_snn")


def single_picture(picture: Image.Image) -> Image.Image:
    """The picture, if its file holds no others.

    Raises:
        ValueError: If it holds several, such as an animation or the pages of a scan.
    """
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # cameras' JPEGs, the others of which are previews
        raise ValueError(f"it holds {frames} pictures, expected one")
    return picture


def pixels_of(picture: Image.Image, *, grey: bool) -> np.ndarray:
    """Decodes to bytes `[H, W, C]`: one channel for a grey picture where allowed, else three."""
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"expected 8 bits per channel, got mode {picture.mode}")
    if grey and picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))[..., None]
    return np.array(picture.convert("RGB"))


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Turns bytes `[N, H, W, C]` into floats `[N, C, H, W]` in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)


def resized(images: Tensor, size: int | None) -> Tensor:
    """Resizes `[N, C, H, W]` to `size` x `size`: bilinear, and antialiased where it shrinks.

    A `size` of None, or the size that the images have, changes nothing.

    Raises:
        InputError: If pixels are no floats in [0, 1], which the result would hide.
    """
    if size is None or images.shape[-2:] == (size, size):
        return images
    check_pixels(images)
    out = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return out.clamp(0, 1)  # the filter's weights may add up to one rounding step more than 1


def say_resized(shapes: set[tuple[int, ...]], size: int | None) -> None:
    """Says which images, of shapes `(H, W)`, a caller's size has changed."""
    if others := sorted(shapes - {(size, size)}) if size is not None else []:
        first = "x".join(map(str, others[0]))
        more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
        _log.info("images of %s pixels%s are resized to %sx%s", first, more, size, size)
