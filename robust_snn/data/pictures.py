"""Pictures of a source, one after the other, as one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_snn.data.image_set import from_bytes, resized
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
    images = torch.empty(0)
    for row, index in enumerate(order):
        try:
            pixels = pixels_of(read(index), grey=row == 0 or images.shape[1] == 1)
        except Exception as error:  # decoders raise anything on broken bytes
            raise InputError(f"cannot read {name(index)}: {error}; replace or remove it") from error
        image = resized(from_bytes(pixels[None]), size)[0]
        if row == 0:
            images = torch.empty(len(order), *image.shape)
        if image.shape != images.shape[1:]:
            raise InputError(
                f"{name(index)} is {'x'.join(map(str, image.shape))} (channels, height, width), "
                f"the first one {'x'.join(map(str, images.shape[1:]))}; "
                "give a size to resize to, and either grey or colour images"
            )
        images[row] = image
    return images


def pixels_of(picture: Image.Image, *, grey: bool) -> np.ndarray:
    """Decodes to bytes `[H, W, C]`: one channel for a grey picture where allowed, else three."""
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"expected 8 bits per channel, got mode {picture.mode}")
    if grey and picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))[..., None]
    return np.array(picture.convert("RGB"))
