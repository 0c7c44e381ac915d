"""Which operations of a forward pass follow from its images.

Spikes are found again by the place of their operation among these. Others, such as loops over the
images of a batch that set states to rest, or over weights, differ from one call to another.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

IMAGES, WEIGHTS = "_of_images", "_of_weights"
_numbers = count(1)


class OfImages:
    """Follows images through a forward pass, with a gradient or without one.

    Marks are on storages, which views share and writing in place leaves, and hold the number of the
    pass, since networks keep tensors from one pass to another.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)

    def follows(self, args: Any, options: Any, out: Any) -> bool:
        """Whether an operation has part in what follows from the images."""
        given = [value for value in tree_leaves((args, options)) if isinstance(value, Tensor)]
        follows = any(map(self._is_of_images, given))
        written = args[:1] if out is None else ()  # as `v[mask] = 0`
        for made in tree_leaves((out, written)):
            if isinstance(made, Tensor) and (follows or made.requires_grad):
                self._mark(made, IMAGES if follows else WEIGHTS)
        return follows

    def _is_of_images(self, value: Tensor) -> bool:
        storage = _storage(value)
        if getattr(storage, IMAGES, 0) == self._number:
            return True
        weights = isinstance(value, nn.Parameter) or getattr(storage, WEIGHTS, 0) == self._number
        return value.requires_grad and not weights

    def _mark(self, value: Tensor, mark: str) -> None:
        storage = _storage(value)
        if storage is not None:
            setattr(storage, mark, self._number)


def _storage(value: Tensor) -> torch.UntypedStorage | None:
    """The memory of a tensor; None if it has none of its own, as a sparse one."""
    try:
        return value.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
