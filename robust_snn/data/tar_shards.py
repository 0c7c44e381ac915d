"""Tar files in the layout of WebDataset: beside every picture `KEY.jpg` its class in `KEY.cls`."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath

from robust_snn.data.arrays import label_array
from robust_snn.data.image_files import ENDINGS, PictureFiles, Place
from robust_snn.data.image_set import OpenImageSet
from robust_snn.utils.errors import InputError, reason_of

LABEL, FIRST = ".cls", 8


def tars_of(path: Path) -> list[Path]:
    """The tars of a set in the layout of WebDataset: one, or all in a folder without folders."""
    found = [path]
    if path.is_dir():
        with suppress(OSError):  # its own reader says what is wrong with it
            found = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    tars = [entry for entry in found if entry.suffix.lower() == ".tar" and entry.is_file()]
    alone = not any(entry.is_dir() for entry in found)
    return tars if tars and alone and _holds_labels(tars[0]) else []


def load_tar_shards(path: Path, tars: list[Path], size: int | None, n: int | None) -> OpenImageSet:
    """Opens tars in the layout of WebDataset; pictures are decoded as they are asked for.

    Args:
        path: What the set is named after.
        tars: Its tars, in order.
        size: Side of the square that pictures are resized to, if any.
        n: Number of pictures, of which the classes take turns; all if left out.

    Raises:
        InputError: If one cannot be read, or a picture has no class or is there twice.
    """
    names, places, labels = list[str](), list[Place](), list[int]()
    for tar in tars:
        for name, place, label in _samples(tar):
            names.append(f"{tar.name}/{name}")
            places.append(place)
            labels.append(label)
    if not names:
        raise InputError(f"no pictures in '{path}'; expected {ENDINGS} beside {LABEL}")
    known = label_array(labels, str(path))
    classes = tuple(str(number) for number in range(int(known.max()) + 1))
    files = PictureFiles(path, tuple(names), tuple(places), classes, known)
    return files.opened(path.resolve().name, "all", size, n)


def _holds_labels(tar: Path) -> bool:
    """Whether one of the first files of a tar is a class."""
    try:
        with tarfile.open(tar) as members:
            files = (member.name for member in members if member.isfile())
            return any(PurePath(name).suffix == LABEL for name in islice(files, FIRST))
    except (tarfile.TarError, OSError):  # its own reader says what is wrong with it
        return False


def _samples(tar: Path) -> Iterator[tuple[str, Place, int]]:
    """Name, place and class of every picture of a tar."""
    pictures, classes = dict[str, tuple[str, Place]](), dict[str, str]()
    try:
        with tarfile.open(tar) as members:
            for member in members:
                folder, dot, ending = member.name.rpartition("/")[2].partition(".")
                key = member.name.removesuffix(f"{dot}{ending}")
                if not member.isfile() or not folder:
                    continue
                if f".{ending}".lower() == LABEL:
                    content = members.extractfile(member)
                    assert content is not None
                    classes[key] = content.read(64).decode().strip()
                elif f".{ending}".lower() in ENDINGS.split():
                    if key in pictures:
                        raise ValueError(f"'{key}' has two pictures")
                    pictures[key] = (member.name, Place(tar, member.offset_data, member.size))
        for key, (name, place) in pictures.items():
            if key not in classes:
                raise ValueError(f"'{name}' has no class '{key}{LABEL}'")
            yield name, place, int(classes[key])
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"cannot read '{tar}': {reason_of(error)}") from None
