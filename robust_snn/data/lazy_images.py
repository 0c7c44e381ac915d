"""Images that are read when they are asked for, in the place of a tensor of all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_snn.data.checks import check_pixels
from robust_snn.data.image_digests import image_digest
from robust_snn.data.pictures import from_bytes, pixels_of, resized, say_resized
from robust_snn.utils.errors import InputError, reason_of
from robust_snn.utils.large_blocks import LARGE, give_back_large_blocks

Batch: TypeAlias = tuple[dict[int, int], Tensor]  # places of rows, and their images
NOTHING: Batch = {}, torch.empty(0)
Read: TypeAlias = Callable[[int], Image.Image | np.ndarray | Tensor]


class UnreadableImage(InputError):
    """An image cannot be read, or is no longer what it was."""


class ReadAhead:
    """Images that a thread reads meanwhile.

    Args:
        read: Reads images.
        rows: Which ones.
    """

    def __init__(self, read: Callable[[list[int]], Batch], rows: list[int]) -> None:
        self.rows, self._read, self._found = rows, read, NOTHING
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(Exception):  # who asks for the images reads them again, and meets it
            self._found = self._read(self.rows)

    def result(self) -> Batch | None:
        """The images; None where they cannot be had so."""
        self._thread.join()
        return self._found if self._found[0] else None


class LazyImages:
    """Images `[N, C, H, W]`, or event frames `[N, T, C, H, W]`, that are read one by one.

    What is asked for comes as a float32 tensor, as slices and indices of a tensor do. What was read
    last is kept, so that all attacks on a batch read it once. Every image is checked as it is read.

    Args:
        read: Gives the image at an index of the source: a picture, or floats in [0, 1]
            `[C, H, W]`. It is sent to other processes, so a method of something small serves.
        order: Indices of the images in the source, `[N]`; at least one.
        size: Side of the square that pictures are resized to, if any.
        name: What messages call the image at an index of the source.
        apart: Whether `read` may run in another thread, beside whatever else happens.

    Raises:
        UnreadableImage: If the first image cannot be read; later the same of any other.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        read: Read,
        order: np.ndarray,
        size: int | None,
        name: Callable[[int], str],
        *,
        apart: bool = False,
    ) -> None:
        self.read, self.order, self.size, self.name = read, order, size, name
        self.apart = apart
        self.digests: tuple[str, ...] | None = None
        self._unread = np.zeros(len(order), bool)  # whose digest is still to be compared
        self._one: tuple[int, ...] | None = None
        self._last: Batch = NOTHING
        self._ahead: ReadAhead | None = None
        self._one = tuple(self._read(0).shape)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.order), *(self._one or ())))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: Any) -> Tensor:
        """The images at an index, a slice, or a tensor of indices or of booleans."""
        rows = np.arange(len(self))[at.cpu().numpy() if isinstance(at, Tensor) else at]
        if rows.ndim == 0:
            return self[rows[None]][0]
        if not len(rows):
            return torch.empty(0, *self.shape[1:])
        asked = rows.tolist()
        if not set(asked) <= self._last[0].keys():
            self._last = self._read_before(asked) or self._together(asked)
        places, images = self._last
        return images[[places[row] for row in asked]]  # a copy, which a caller may change

    def read_ahead(self, rows: np.ndarray) -> None:
        """Begins to read images that are asked for next, where that may happen in a thread."""
        if self.apart:
            self._ahead = ReadAhead(self._together, rows.tolist())

    def __iter__(self) -> Iterator[Tensor]:
        return (self._read(row) for row in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": NOTHING, "_ahead": None}

    def subset(self, rows: np.ndarray) -> LazyImages:
        """Some of the images, which are not read yet."""
        digests = None if self.digests is None else tuple(self.digests[row] for row in rows)
        return self._like(self.order[rows], digests)

    def verified(self, digests: tuple[str, ...], read: bool = False) -> LazyImages:
        """The images, each of which must have its digest whenever it is read.

        Args:
            digests: One for each image, `N`.
            read: Whether they are those of the images as they are now.
        """
        new = self._like(self.order, digests)
        new._unread = np.full(len(self), not read)
        return new

    def read_rest(self) -> None:
        """Reads what was not read yet, so that each image has been compared with its digest."""
        for row in np.flatnonzero(self._unread).tolist():
            self._read(row)

    def _like(self, order: np.ndarray, digests: tuple[str, ...] | None) -> LazyImages:
        new = object.__new__(LazyImages)
        unread = np.zeros(len(order), bool)
        new.__dict__.update(
            self.__dict__, order=order, digests=digests, _unread=unread, _last=NOTHING, _ahead=None
        )
        return new

    def _read_before(self, rows: list[int]) -> Batch | None:
        """What was read ahead, if all that is asked for is part of it."""
        ahead, self._ahead = self._ahead, None
        return None if ahead is None or not set(rows) <= set(ahead.rows) else ahead.result()

    def _together(self, rows: list[int]) -> Batch:
        images = torch.empty(len(rows), *self.shape[1:])
        if images.nbytes >= LARGE:
            give_back_large_blocks()
        for place, row in enumerate(rows):
            images[place] = self._read(row)
        return {row: place for place, row in enumerate(rows)}, images

    def _read(self, row: int) -> Tensor:
        index = int(self.order[row])
        try:
            image = self._decoded(self.read(index))
            check_pixels(image[None])
        except Exception as error:  # decoders raise anything on broken bytes
            why = reason_of(error, "; replace or remove it")
            raise UnreadableImage(f"cannot read {self.name(index)}: {why}") from error
        if self._one is not None and image.shape != self._one:
            shapes = ("x".join(map(str, shape)) for shape in (image.shape, self._one))
            raise UnreadableImage(
                "{} is {} (channels, height, width), the first one {}; give a size to resize to, "
                "and either grey or colour images".format(self.name(index), *shapes)
            )
        if self.digests is not None and image_digest(image) != self.digests[row]:
            raise UnreadableImage(
                f"{self.name(index)} has changed since the run began; what is finished is safe: "
                "restore it and start the same evaluation again, or choose another folder"
            )
        self._unread[row] = False
        return image

    def _decoded(self, found: Any) -> Tensor:
        """Float32 `[C, H, W]`; a grey picture has one channel where the first one has."""
        if not isinstance(found, Image.Image):
            image = torch.as_tensor(found).float()
            return resized(image[None], self.size)[0] if image.ndim == 3 else image
        pixels = from_bytes(pixels_of(found, grey=self._one is None or self._one[0] == 1)[None])
        if self._one is None:
            say_resized({tuple(pixels.shape[-2:])}, self.size)
        return resized(pixels, self.size)[0]


Images: TypeAlias = Tensor | LazyImages


def images_at(images: Images, rows: np.ndarray) -> Images:
    """Some of the images, `[len(rows), ...]`; those on disk stay there."""
    if isinstance(images, LazyImages):
        return images.subset(rows)
    return images[torch.from_numpy(rows)]


def loaded(images: Images) -> Tensor:
    """All images in memory."""
    return images[:] if isinstance(images, LazyImages) else images
