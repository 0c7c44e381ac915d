"""Which of a membrane's values belong to which image: its first axis need not be the batch.

Neurons that run all steps may put time first, or flatten what is not time into one axis.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

UNKNOWN = "which of its membranes belong to which image was not found"


class ImageAxis(NamedTuple):
    """Where the images of a batch are in a tensor.

    Attributes:
        axis: The axis along which they lie.
        each: How many values of an image are on it.
        strided: Whether the values of an image are apart, those of all images beside each other.
    """

    axis: int
    each: int
    strided: bool

    def first(self, membrane: Tensor) -> Tensor:
        """A tensor as `[B, ...]`, where what shared an axis with the images is the last axis.

        Tensors of two axes, which have no channels, become `[B, N]`.
        """
        images = membrane.shape[self.axis] // self.each
        shape = (self.each, images) if self.strided else (images, self.each)
        parts = membrane.unflatten(self.axis, shape).movedim(self.axis + self.strided, 0)
        parts = parts.movedim(self.axis + 1, -1)
        return parts.flatten(1) if membrane.dim() == 2 else parts

    def back(self, values: Tensor, membrane: Tensor) -> Tensor:
        """What `first` makes of a tensor of this membrane's shape, turned back."""
        if membrane.dim() == 2:
            values = values.unflatten(1, (membrane.shape[1 - self.axis], self.each))
        values = values.movedim(-1, self.axis + 1).movedim(0, self.axis + self.strided)
        return values.flatten(self.axis, self.axis + 1)


def axis_of_images(membrane: Tensor, more: Tensor | None, images: int) -> ImageAxis | str | None:
    """Where the images are in a membrane if not on its first axis, or why that is not known.

    Args:
        membrane: The membrane for a batch of `images`.
        more: See `find_axis`; None if there is none.
        images: The size of the batch.
    """
    found = None if more is None else find_axis(membrane, more, images)
    grows = more is None or more.shape[:1] == (2 * images,)
    if found is None and membrane.shape[:1] == (images,) and grows:
        return None  # its values follow random numbers, say
    return None if found == ImageAxis(0, 1, False) else found or UNKNOWN


def find_axis(membrane: Tensor, more: Tensor, images: int) -> ImageAxis | None:
    """Where the images of a batch are in a membrane; None if that does not show.

    Args:
        membrane: The membrane for a batch of `images`.
        more: That for a batch twice as large, whose first half is the same.
        images: The size of the smaller batch.
    """
    if more.dim() != membrane.dim():
        return None
    grown = [at for at, size in enumerate(membrane.shape) if more.shape[at] != size]
    if len(grown) != 1 or more.shape[grown[0]] != 2 * membrane.shape[grown[0]]:
        return None
    each, rest = divmod(membrane.shape[grown[0]], images)
    if rest:
        return None
    for strided in (False, True):
        found = ImageAxis(grown[0], each, strided)
        if torch.allclose(found.first(more)[:images], found.first(membrane), 1e-4, 1e-5):
            return found
    return None
