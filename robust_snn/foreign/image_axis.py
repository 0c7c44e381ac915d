"""Which of a membrane's values belong to which image: its first axis need not be the batch.

Neurons that run all steps may put time first, or flatten what is not time into one axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from robust_snn.foreign.spike_recording import Recorded
    from robust_snn.foreign.spike_steps import Step

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


def image_axes(
    groups: Sequence[Sequence[Sequence[int]]],
    steps: Sequence[Step | None],
    images: int,
    larger: Callable[[], Sequence[Recorded]],
) -> dict[int, ImageAxis | str | None]:
    """Where the images are in membranes of neurons whose first axis may be another, by neuron.

    Args:
        groups: Neurons, their steps, and the calls of these.
        steps: The calls.
        images: The size of the batch.
        larger: The calls for a batch twice as large, whose first half is the same; or none.
    """
    unclear: dict[int, tuple[int, int, Tensor]] = {}
    for place, group in enumerate(groups):
        step = steps[group[0][0]]
        if step is not None and step.staircase is not None:
            argument = step.staircase.argument
            membrane = step.recorded.arguments[argument]
            if len(group) == 1 or membrane.shape[:1] != (images,):
                unclear[place] = group[0][0], argument, membrane
    calls = larger() if unclear else []
    axes: dict[int, ImageAxis | str | None] = {}
    for place, (call, argument, membrane) in unclear.items():
        more = calls[call].arguments[argument] if len(calls) == len(steps) else None
        axes[place] = axis_of_images(membrane, more, images)
    return axes


def axis_of_images(membrane: Tensor, more: Tensor | None, images: int) -> ImageAxis | str | None:
    """Where the images are in a membrane if not on its first axis, or why that is not known.

    Args:
        membrane: The membrane for a batch of `images`.
        more: See `find_axis`; None if there is none.
        images: The size of the batch.
    """
    found = find_axis(membrane, more, images) if isinstance(more, Tensor) else None
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
