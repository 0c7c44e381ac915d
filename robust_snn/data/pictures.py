"""Pictures of a source, one after the other, as one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_snn.data.image_set import from_bytes, resized, say_resized
from robust_snn.utils.errors import InputError


def stacked(
    read: Callable[[int], Image.Image],
    order: Sequence[int],
    size: int | None,
    name: Callable[[int], str],
) -> Tensor:
    """Reads pictures into one tensor `[N, C, H, W]` in [0, 1].

    Args:
        read: Gives the picture at an index.
        order: Indices of the wanted ones.
        size: Side of the square that they are resized to, if any.
        name: What messages call the picture at an index.

    Raises:
        InputError: If one cannot be read, or is of another shape than the first.
    """
    images, stored = np.empty(0), set[tuple[int, ...]]()
    for row, index in enumerate(order):
        try:
            pixels = pixels_of(read(index), grey=row == 0 or images.shape[-1] == 1)
        except Exception as error:  # decoders raise anything on broken bytes
            raise InputError(f"cannot read {name(index)}: {error}; replace or remove it") from error
        stored.add(pixels.shape[:2])
        if size is not None:
            pixels = resized(from_bytes(pixels[None]), size)[0].permute(1, 2, 0).numpy()
        if row == 0:
            images = np.empty((len(order), *pixels.shape), pixels.dtype)
        if pixels.shape != images.shape[1:]:
            raise InputError(
                f"{name(index)} is {_shown(pixels)} (channels, height, width), the first one "
                f"{_shown(images[0])}; give a size to resize to, and either grey or colour images"
            )
        images[row] = pixels
    say_resized(stored, size)
    if size is None:
        return from_bytes(images)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _shown(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"{channels}x{height}x{width}"


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
