"""Folders that Hugging Face's `datasets` wrote with `save_to_disk`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robust_snn.data.arrays import label_array
from robust_snn.data.image_set import OpenImageSet, balanced
from robust_snn.data.lazy_images import LazyImages
from robust_snn.utils.errors import InputError, missing_extra, reason_of

_SPLITS = {"train": ("train",), "test": ("test", "validation", "valid", "val")}
_LABELS = ("label", "labels", "fine_label")


def is_datasets_folder(path: Path) -> bool:
    """Whether `datasets` wrote this folder."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def load_datasets_folder(path: Path, split: str, size: int | None, n: int | None) -> OpenImageSet:
    """Opens images and labels; classes take turns, as in folders of images.

    Raises:
        ImportError: If `datasets` is not installed.
        InputError: If the folder is damaged, or has no such split, image or label.
    """
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise missing_extra("datasets", "datasets") from error
    try:
        data: Any = load_from_disk(str(path))
    except Exception as error:  # Arrow raises anything on foreign bytes
        raise InputError(f"cannot read '{path}': {reason_of(error)}") from None
    part = "all"
    if isinstance(data, DatasetDict):
        part = next((name for name in _SPLITS[split] if name in data), "")
        if not part:
            raise InputError(f"'{path}' has the splits {', '.join(data)}, none for '{split}'")
        data = data[part]
    kinds = {name: type(kind).__name__ for name, kind in data.features.items()}
    image = _column(path, kinds, [name for name in kinds if kinds[name] == "Image"], "an image")
    named = [name for name in kinds if kinds[name] == "ClassLabel"]
    label = _column(path, kinds, [n for n in _LABELS if n in kinds][:1] or named, "a label")
    labels = label_array(data[label][:], str(path))
    order = balanced(labels)[:n]
    column = ImageColumn(data, image, path)
    names: Sequence[str] | None = getattr(data.features[label], "names", None)
    return OpenImageSet(
        name=path.resolve().name,
        split=part,
        images=LazyImages(column.picture, order, size, column.name),
        labels=torch.from_numpy(labels[order]),
        classes=tuple(names or map(str, range(int(labels.max()) + 1))),
    )


@dataclass(frozen=True)
class ImageColumn:
    """The images of a data set, which stay in its files.

    Attributes:
        data: The data set.
        column: Name of its images.
        path: Its folder.
    """

    data: Any
    column: str
    path: Path

    def name(self, index: int) -> str:
        """What messages call an image."""
        return f"image {index} of '{self.path}'"

    def picture(self, index: int) -> Any:
        """An image, decoded."""
        return self.data[index][self.column]


def _column(path: Path, kinds: dict[str, str], found: list[str], what: str) -> str:
    if len(found) != 1:
        columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise InputError(
            f"'{path}' has the columns {columns}; expected one that is {what}: rename it to "
            f"{'label' if what == 'a label' else 'image'}, and drop the others"
        )
    return found[0]
