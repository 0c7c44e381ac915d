"""Data sets of others: anything with a length whose items are pairs of an image and a label."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_snn.data.arrays import image_tensor, label_array
from robust_snn.data.checks import check_labels
from robust_snn.data.image_set import OpenImageSet, balanced
from robust_snn.data.lazy_images import Images, LazyImages
from robust_snn.data.mapped_array import MappedArray
from robust_snn.utils.errors import InputError, first_line, reason_of

_LABELS = ("targets", "labels", "_labels", "y")  # where sets keep them


@dataclass(frozen=True)
class Pairs:
    """A map-style data set.

    Attributes:
        data: The data set; its items are images, or tuples that begin with an image and its label.
        called: What messages call it.
    """

    data: Any
    called: str

    def name(self, index: int) -> str:
        """What messages call an image."""
        return f"image {index} of '{self.called}'"

    def image(self, index: int) -> Any:
        """A picture, or an image `[C, H, W]`: tensors as they are, arrays of any layout."""
        item = self.data[index]
        image = item[0] if isinstance(item, tuple | list) else item
        if isinstance(image, Image.Image) or (
            isinstance(image, Tensor) and image.is_floating_point()
        ):
            return image
        return image_tensor(np.asarray(image)[None], "images")[0]


@runtime_checkable
class MapStyle(Protocol):
    """Anything with a length whose items can be asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def is_map_style(data: Any) -> bool:
    """Whether images can be read one by one from an object that holds none in memory."""
    in_memory = isinstance(data, Tensor | tuple | list | dict | str | bytes | np.ndarray)
    return isinstance(data, MapStyle) and (isinstance(data, np.memmap) or not in_memory)


def opened(data: Any, name: str, n: int | None = None, size: int | None = None) -> LazyImages:
    """The first `n` images of a map-style data set, in its order, resized if `size` is given.

    Raises:
        InputError: If there are none, or the first one cannot be read.
    """
    count = len(data) if n is None else min(n, len(data))
    if not count:
        raise InputError(f"'{name}' holds no images")
    mapped = isinstance(data, np.memmap)  # code of others may mind the thread that it runs in
    pairs = Pairs(MappedArray.of(data) if mapped else data, name)
    return LazyImages(pairs.image, np.arange(count), size, pairs.name, apart=mapped)


def open_set(data: Any, name: str, split: str, n: int | None, size: int | None) -> OpenImageSet:
    """The first `n` images of a map-style data set with their labels; it may name its classes.

    Raises:
        InputError: If it holds no images, no labels, or more than its classes.
    """
    labels = labels_of(data, n)
    known = getattr(data, "classes", None) or range(int(labels.max(initial=0)) + 1)
    images, every = opened(data, name, n, size), torch.from_numpy(labels)
    check_labels(every, len(images), len(known))
    return OpenImageSet(name, split, images, every, tuple(map(str, known)))


def labels_of(data: Any, n: int | None = None) -> np.ndarray:
    """Labels `[N]` of a set, int64: those that it shows, or those of all its items.

    A set may change labels as it hands out items, as `target_transform` does. So the labels that it
    shows count only if an item of each class has the same.

    Raises:
        InputError: If it has none.
    """
    count = len(data) if n is None else min(n, len(data))
    shown = _shown(data)
    if shown is not None and getattr(data, "target_transform", None) is None:
        firsts = np.unique(shown[:count], return_index=True)[1]
        if all(_agrees(data, index, shown[index]) for index in firsts.tolist()):
            return shown[:count]
    try:
        labels = [operator.index(data[index][1]) for index in range(count)]
        return label_array(labels, type(data).__name__)
    except InputError:
        raise
    except Exception as error:  # whatever somebody's data set does
        raise InputError(
            f"the data set shows no labels ({first_line(error)}): give labels"
        ) from None


def _shown(data: Any) -> np.ndarray | None:
    """The whole numbers, one for each item, that a set shows as its labels, if any."""
    for place in (*_LABELS, "_samples"):
        values = getattr(data, place, None)
        try:
            if place == "_samples":
                values = [sample[-1] for sample in values or ()]
            labels = label_array(values, place)
        except (InputError, TypeError, IndexError, KeyError):
            continue
        if len(labels) == len(data):
            return labels
    return None


def _agrees(data: Any, index: int, label: int) -> bool:
    """Whether an item has the label that its set shows, as far as can be told."""
    try:
        item = data[index]
    except Exception:  # what is wrong with it is said where its image is read
        return True
    if not isinstance(item, tuple | list) or len(item) < 2:
        return True
    try:
        return operator.index(item[1]) == label
    except TypeError:
        return False


def with_labels(images: Images | MapStyle, labels: Tensor | None) -> tuple[Images, Tensor]:
    """Images and labels of what a caller gives: both, or a data set that has them.

    Raises:
        InputError: If there are no labels.
    """
    if labels is None:
        if not is_map_style(images) or isinstance(images, LazyImages):
            raise InputError("labels are missing: give labels [N] with the images")
        labels = torch.from_numpy(labels_of(images))
    if isinstance(images, LazyImages) or not is_map_style(images):
        return images, labels  # type: ignore[return-value]  # checked with all other input
    if isinstance(labels, Tensor) and labels.shape[:1] != (len(images),):
        check_labels(labels, len(images), 2)
    return opened(images, type(images).__name__), labels


def load_mapped(path: Path, split: str, size: int | None, n: int | None) -> OpenImageSet:
    """Opens a folder with `images.npy` and `labels.npy`; the images are mapped into memory.

    Raises:
        InputError: If a file is missing or damaged, or they are no labelled images.
    """
    try:
        images, labels = (
            np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("images", "labels")
        )
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the arrays in '{path}': {reason_of(error)}") from None
    known = label_array(np.array(labels), str(path))
    count = int(known.max(initial=0)) + 1
    check_labels(torch.from_numpy(known), len(images), count)
    order = balanced(known)[:n]
    return OpenImageSet(
        path.resolve().name,
        "all",
        opened(images, str(path), size=size).subset(order),
        torch.from_numpy(known[order]),
        tuple(map(str, range(count))),
    )
