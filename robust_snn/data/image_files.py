"""Image files in class folders, on disk or inside a tar, read through timm's readers."""

from __future__ import annotations

import logging
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeAlias
from unittest import mock

import numpy as np
import torch
from PIL import Image
from timm.data.readers import reader_image_folder, reader_image_in_tar
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from robust_snn.data.image_set import OpenImageSet, balanced
from robust_snn.data.lazy_images import LazyImages
from robust_snn.data.pictures import single_picture
from robust_snn.utils.errors import InputError, reason_of
from robust_snn.utils.user_files import is_there

Reader: TypeAlias = ReaderImageFolder | ReaderImageInTar
EXPECTED = (
    "expected class folders side by side, in a folder or .tar, of images such as .png or .jpg"
)
ENDINGS = (
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .webp .gif .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .avif"
)
_log = logging.getLogger("robust_snn")


class Place(NamedTuple):
    """Where the bytes of a picture lie: a whole file, or a part of one."""

    path: Path
    start: int = 0
    size: int = -1


@dataclass(frozen=True)
class PictureFiles:
    """Pictures that have been found, and not decoded.

    Attributes:
        source: The folder or tar.
        names: Of the pictures within it.
        places: Where they are.
        classes: Sorted names of the classes.
        labels: Number of each picture's class, `[N]`.
    """

    source: Path
    names: tuple[str, ...]
    places: tuple[Place, ...]
    classes: tuple[str, ...]
    labels: np.ndarray

    def name(self, index: int) -> str:
        """What messages call a picture."""
        return f"image '{self.names[index]}' of '{self.source}'"

    def content(self, index: int) -> bytes:
        """A picture as it is stored; a link may lead to a device, whose reading never ends."""
        place = self.places[index]
        is_there(place.path, "the image")
        with place.path.open("rb") as file:
            file.seek(place.start)
            return file.read(place.size)

    def picture(self, index: int) -> Image.Image:
        """A picture, decoded."""
        with Image.open(BytesIO(self.content(index))) as picture:
            single_picture(picture).load()
            return picture

    def opened(self, name: str, split: str, size: int | None, n: int | None) -> OpenImageSet:
        """The pictures as images; classes take turns, so that the first `n` hold all of them."""
        order = balanced(self.labels)[:n]
        return OpenImageSet(
            name=name,
            split=split,
            images=LazyImages(self.picture, order, size, self.name, apart=True),
            labels=torch.from_numpy(self.labels[order]),
            classes=self.classes,
        )


def found_pictures(source: Path) -> PictureFiles:
    """The pictures of a folder or a `.tar` of class folders.

    Labels follow the sorted class names, as in torchvision's `ImageFolder`.

    Raises:
        InputError: If it holds no images, or not in class folders.
    """
    reader = _reader(source)
    names = [PurePath(name) for name in reader.filenames()]
    _check_layout(source, names)
    classes, labels = np.unique([name.parent.name for name in names], return_inverse=True)
    places = tuple(_place(source, sample) for sample in reader.samples)
    return PictureFiles(source, tuple(map(str, names)), places, tuple(classes.tolist()), labels)


def _place(source: Path, sample: Any) -> Place:
    """Where timm's reader finds a sample: a path, or a member of a tar, which may be in a tar."""
    if isinstance(sample[0], str):
        return Place(Path(sample[0]))
    member, _, outer = sample
    start = 0 if outer is None else outer.offset_data
    return Place(source, start + member.offset_data, member.size)


def load_files(path: Path, split: str, size: int | None, n: int | None) -> OpenImageSet:
    """Opens a folder or a `.tar` of class folders; images are decoded as they are asked for."""
    place = path.resolve()
    if place == Path(path.anchor or "/"):
        raise InputError(f"'{path}' holds the whole file system; {EXPECTED}")
    if str(place) == "/dev" or place.parts[1:2] in (("proc",), ("sys",)):
        raise InputError(f"'{path}' shows the system's state and holds no data; {EXPECTED}")
    # two levels below tell a split from a class that happens to be named "train"
    has_splits = any((path / split).glob("*/*"))
    files = found_pictures(path / split if has_splits else path)
    return files.opened(place.name, split if has_splits else "all", size, n)


class _Endings(set[str]):
    """The endings of images, which notes those of all other files that it is asked about."""

    def __init__(self) -> None:
        super().__init__(ENDINGS.split())
        self.others = Counter[str]()

    def __contains__(self, ending: object) -> bool:
        known = super().__contains__(str(ending).lower())
        if not known:
            self.others[str(ending).lower()] += 1
        return known


@contextmanager
def _all_formats(source: Path) -> Iterator[None]:
    """Lets timm's readers find images of every format, and says what else lies among them."""
    endings, modules = _Endings(), (reader_image_folder, reader_image_in_tar)
    with ExitStack() as stack:
        for module in modules:  # timm's own list is one for the process, and a caller's to change
            stack.enter_context(
                mock.patch.object(module, "get_img_extensions", lambda as_set=False: endings)
            )
        yield
    _say_left_out(source, endings.others)


def _say_left_out(source: Path, kinds: Counter[str]) -> None:
    if kinds:
        counts = ", ".join(f"{n} {kind or 'without ending'}" for kind, n in sorted(kinds.items()))
        _log.warning("left out of '%s', which are no images: %s", source, counts)


def _without_hidden(source: Path, reader: Reader) -> Reader:
    """The reader without what systems and programs put beside a user's files."""
    names = [PurePath(name) for name in reader.filenames()]
    kept = [index for index, name in enumerate(names) if not any(map(_is_hidden, name.parts))]
    if len(kept) < len(names):
        _say_left_out(source, Counter({"hidden": len(names) - len(kept)}))
        if not kept:
            raise RuntimeError("every image is hidden")
        reader.samples = [reader.samples[index] for index in kept]
        if isinstance(reader, ReaderImageInTar):
            reader.targets = reader.targets[kept]
    return reader


def _is_hidden(part: str) -> bool:
    """Whether a name is that of hidden files, such as `.ipynb_checkpoints` or `._1.png`."""
    return part == "__MACOSX" or (part.startswith(".") and part.strip(".") != "")


def _reader(source: Path) -> Reader:
    if source.is_file() and source.suffix.lower() != ".tar":
        if source.suffix == ".py":
            raise InputError(
                f"name the function in {source} that makes the data: {source}:make_data"
            )
        raise InputError(f"'{source}' is neither a folder nor a .tar file; {EXPECTED}")
    try:
        with _all_formats(source):
            if source.is_dir():
                return _without_hidden(source, ReaderImageFolder(str(source)))
            _check_complete(source)
            _say_left_out(source, _links(source))
            # without timm's cache file: nothing is unpickled, nothing is written beside the data
            return _without_hidden(source, ReaderImageInTar(str(source), cache_tarinfo=False))
    except (tarfile.TarError, OSError) as error:
        why = reason_of(error, "; is the file complete?")
        raise InputError(f"cannot read '{source}': {why}") from error
    except (RuntimeError, ValueError) as error:  # what timm raises where it finds no image
        raise InputError(f"no images in '{source}'; {EXPECTED}") from error


def _check_complete(tar: Path) -> None:
    """Raises unless the end mark is there; readers take a tar cut between two files for a whole."""
    with tar.open("rb") as file:
        file.seek(max(0, tar.stat().st_size - tarfile.BLOCKSIZE))
        if file.read() != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end of archive mark")


def _links(tar: Path) -> Counter[str]:
    """What a tar holds beside files and folders, which timm's reader passes over."""
    with tarfile.open(tar) as members:
        others = [m for m in members if not (m.isfile() or m.isdir())]
    return Counter("links" if m.issym() or m.islnk() else "devices or pipes" for m in others)


def _check_layout(source: Path, names: list[PurePath]) -> None:
    """Refuses layouts whose labels or counts would silently be wrong."""
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"'{source}' holds '{name}' {times} times; keep one of each name")
    parents = {name.parent for name in names}
    places = sorted({str(parent.parent) for parent in parents})
    if any(not parent.name for parent in parents) or len(places) > 1:
        raise InputError(
            f"images in '{source}' lie at different depths or places; {EXPECTED}; "
            "give one such folder"
        )
    if source.is_dir():
        folders = (entry for entry in (source / places[0]).iterdir() if entry.is_dir())
        empty = {entry.name for entry in folders} - {parent.name for parent in parents}
        if shown := sorted(name for name in empty if not _is_hidden(name)):
            raise InputError(
                f"no images in class folder '{shown[0]}' of '{source}': fill or remove it"
            )
