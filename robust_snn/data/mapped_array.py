"""Arrays that are mapped into memory, for several processes."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np

from robust_snn.utils.errors import InputError


@dataclass(frozen=True)
class MappedArray:
    """An array in a file, mapped into memory; other processes open the file anew.

    Attributes:
        path: The file.
        kind: Its type.
        shape: Its shape.
        start: Where it begins.
    """

    path: str
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @classmethod
    def of(cls, array: Any) -> MappedArray:
        """The array that a `np.memmap` shows; one that shows a part of it is refused.

        Raises:
            InputError: If it is no whole array of a file in C order.
        """
        whole = isinstance(array.base, mmap) and array.flags.c_contiguous
        if not whole or array.filename is None:
            raise InputError("images are a part of a mapped array: map the whole of a file")
        return cls(str(array.filename), array.dtype, array.shape, array.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        mapped = np.memmap(self.path, self.kind, "r", self.start, self.shape)
        return np.array(mapped[index])
