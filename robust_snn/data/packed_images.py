"""Compressed pictures of a data set in one file, which is small to send and quick to read.

The file is a `.safetensors`, so that reading it executes nothing: for every split the bytes of all
pictures one after the other, where each one ends, and the labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import safetensors
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from robust_snn.data.arrays import label_array
from robust_snn.data.checks import check_labels
from robust_snn.data.image_files import found_pictures
from robust_snn.data.image_set import OpenImageSet, balanced
from robust_snn.data.lazy_images import LazyImages
from robust_snn.data.pictures import single_picture
from robust_snn.utils.atomic_files import write_whole
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import parse_json


def _tensors(split: str) -> tuple[str, str, str]:
    """Names of a split's tensors in the file."""
    return f"{split}.bytes", f"{split}.ends", f"{split}.labels"


def pack_images(sources: Mapping[str, tuple[Path, int | None]], out: Path) -> None:
    """Copies pictures into one file; they are not compressed anew, and classes take turns.

    Args:
        sources: For every split a folder or `.tar` of class folders, and the number of pictures
            from the front, None for all.
        out: The file, `.safetensors`.

    Raises:
        InputError: If a source holds no images in class folders, too few of them, or other classes
            than the first.
    """
    tensors: dict[str, Tensor] = {}
    names: tuple[str, ...] = ()
    for split, (source, n) in sources.items():
        files = found_pictures(source)
        if names and files.classes != names:
            raise InputError(f"'{source}' has other classes than the first source")
        if n is not None and n > len(files.labels):
            raise InputError(f"'{source}' has {len(files.labels)} images, asked for {n}")
        names, order = files.classes, balanced(files.labels)[:n]
        contents = [files.content(index) for index in order.tolist()]
        whole = np.frombuffer(b"".join(contents), np.uint8).copy()
        ends = np.cumsum([len(content) for content in contents])
        kind = np.int16 if len(names) <= 2**15 else np.int32
        parts = whole, ends, files.labels[order].astype(kind)
        tensors |= zip(_tensors(split), map(torch.from_numpy, parts), strict=True)
    data = save(tensors, {"classes": json.dumps(names)})
    write_whole(out, lambda file: file.write(data))


def load_packed(path: Path, split: str, size: int | None, n: int | None) -> OpenImageSet:
    """Opens one split of a file of `pack_images`; pictures are decoded as they are asked for.

    Raises:
        InputError: If the file is damaged or was not written by `pack_images`, has no such split,
            or a picture cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys()
            classes = tuple(
                map(str, parse_json((file.metadata() or {})["classes"], "the names of its classes"))
            )
            splits = [name.removesuffix(".ends") for name in names if name.endswith(".ends")]
            parts = [file.get_tensor(name) for name in _tensors(split)[1:] if name in names]
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"'{path}' holds no packed images: {error}") from None
    if len(parts) < 2:
        raise InputError(f"'{path}' has the splits {', '.join(splits)}, none for '{split}'")
    ends, labels = parts[0], torch.from_numpy(label_array(parts[1], str(path)))
    check_labels(labels, len(ends), len(classes))
    pictures = PackedPictures(path, split, ends.numpy())
    order = np.arange(len(labels[:n]))
    images = LazyImages(pictures.picture, order, size, pictures.name, apart=True)
    return OpenImageSet(path.stem, split, images, labels[:n], classes)


@dataclass(frozen=True)
class PackedPictures:
    """Pictures of one split of a file.

    Attributes:
        path: The file.
        split: The split.
        ends: Where each picture ends among the bytes of all, `[N]`.
    """

    path: Path
    split: str
    ends: np.ndarray

    def name(self, index: int) -> str:
        """What messages call a picture."""
        return f"image {index} of '{self.path}'"

    def picture(self, index: int) -> Image.Image:
        """A picture, not decoded yet."""
        start = self.ends[index - 1] if index else 0
        with safetensors.safe_open(self.path, framework="np") as file:
            content = file.get_slice(_tensors(self.split)[0])[start : self.ends[index]]
        return single_picture(Image.open(BytesIO(content.tobytes())))
