"""Tiny ImageNet (Le and Yang, 2015) as its archive unpacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robust_snn.data.image_files import PictureFiles, Place
from robust_snn.data.image_set import OpenImageSet
from robust_snn.utils.errors import InputError

TINY_IMAGENET = "tinyimagenet"
FOLDER = "tiny-imagenet-200"
HINT = f"unpack tiny-imagenet-200.zip there, so that the folder '{FOLDER}' lies in it"


def load_tiny_imagenet(
    split: str, root: Path | None, size: int | None, n: int | None
) -> OpenImageSet:
    """Opens Tiny ImageNet: 200 classes of 64x64 pixels.

    Its test images have no labels, so that `"test"` is its validation set, as in papers. Labels
    follow the sorted WordNet numbers, which are the names of the classes. Classes take turns.

    Raises:
        InputError: If the files are not there, or not as published.
    """
    if root is None:
        raise InputError(f"'{TINY_IMAGENET}' needs a data root (--data-root DIR): {HINT}")
    folder = root / FOLDER
    files = _train(folder) if split == "train" else _validation(folder)
    if not files:
        raise InputError(f"no {split} files of '{TINY_IMAGENET}' in data root '{root}': {HINT}")
    classes, labels = np.unique([name for _, name in files], return_inverse=True)
    places = tuple(Place(path) for path, _ in files)
    names = tuple(str(path.relative_to(folder)) for path, _ in files)
    pictures = PictureFiles(folder, names, places, tuple(classes.tolist()), labels.astype(np.int64))
    return pictures.opened(TINY_IMAGENET, split, size, n)


def _train(folder: Path) -> list[tuple[Path, str]]:
    """`train/n01443537/images/n01443537_0.JPEG`, ..., with their WordNet numbers."""
    return [(path, path.parts[-3]) for path in sorted((folder / "train").glob("*/images/*.JPEG"))]


def _validation(folder: Path) -> list[tuple[Path, str]]:
    """`val/images/val_0.JPEG`, ..., with the WordNet numbers of `val/val_annotations.txt`."""
    table = folder / "val" / "val_annotations.txt"
    if not table.is_file():
        return []
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if line]
    if any(len(row) < 2 for row in rows):
        raise InputError(f"'{table}' must hold a file and a class in every line, parted by tabs")
    return [(folder / "val" / "images" / row[0], row[1]) for row in rows]
