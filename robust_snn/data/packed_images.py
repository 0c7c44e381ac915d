"""Compressed pictures of a data set in one file, which is small to send and quick to read.

The file is a `.safetensors`, so that reading it executes nothing: for every split the bytes of all
pictures one after the other, where each one ends, and the labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import safetensors
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from robust_snn.data.image_files import found_pictures
from robust_snn.data.image_set import ImageSet, interleaved
from robust_snn.data.pictures import single_picture, stacked
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
        with found_pictures(source) as files:
            if names and files.classes != names:
                raise InputError(f"'{source}' has other classes than the first source")
            if n is not None and n > len(files.labels):
                raise InputError(f"'{source}' has {len(files.labels)} images, asked for {n}")
            names, order = files.classes, interleaved(files.labels)[:n]
            contents = [files.content(index) for index in order.tolist()]
        whole = np.frombuffer(b"".join(contents), np.uint8).copy()
        ends = np.cumsum([len(content) for content in contents])
        kind = np.int16 if len(names) <= 2**15 else np.int32
        parts = whole, ends, files.labels[order].astype(kind)
        tensors |= zip(_tensors(split), map(torch.from_numpy, parts), strict=True)
    data = save(tensors, {"classes": json.dumps(names)})
    write_whole(out, lambda file: file.write(data))


def load_packed(path: Path, split: str, size: int | None, n: int | None) -> ImageSet:
    """Loads one split of a file of `pack_images`; only the first `n` pictures are decoded.

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
            parts = [file.get_tensor(name) for name in _tensors(split) if name in names]
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"'{path}' holds no packed images: {error}") from None
    if len(parts) < len(_tensors(split)):
        raise InputError(f"'{path}' has the splits {', '.join(splits)}, none for '{split}'")
    content, ends, labels = parts
    starts = [0, *ends.tolist()]
    stored = memoryview(content.numpy())
    images = stacked(
        lambda index: single_picture(
            Image.open(BytesIO(stored[starts[index] : starts[index + 1]]))
        ),
        range(len(labels[:n])),
        size,
        lambda index: f"image {index} of '{path}'",
    )
    return ImageSet(path.stem, split, images, labels[:n].long(), classes)
