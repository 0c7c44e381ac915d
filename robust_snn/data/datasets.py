"""Every data set by name, and the one function that loads any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robust_snn.data.arrays import load_arrays
from robust_snn.data.builtin import load_cifar, load_digits
from robust_snn.data.checks import check_labels
from robust_snn.data.datasets_folder import is_datasets_folder, load_datasets_folder
from robust_snn.data.events import EVENT_SETS, load_events
from robust_snn.data.image_files import EXPECTED, load_files
from robust_snn.data.image_set import ImageSet, OpenImageSet
from robust_snn.data.map_style import load_mapped
from robust_snn.data.packed_images import load_packed
from robust_snn.data.tar_shards import load_tar_shards, tars_of
from robust_snn.data.tiny_imagenet import TINY_IMAGENET, load_tiny_imagenet
from robust_snn.data.torchvision_sets import TORCHVISION, load_torchvision
from robust_snn.data.user_data import load_user_data
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.user_files import is_there
from robust_snn.utils.user_function import is_reference
from robust_snn.utils.values import whole


@dataclass(frozen=True)
class NamedImages:
    """A set of images that is known by name.

    Attributes:
        load: Loads it, from its name, the split, the data root and the side to resize images to.
        classes: Number of classes.
    """

    load: Callable[[str, str, Path | None, int | None], ImageSet]
    classes: int


# a new set of images is one row
DATASETS = {
    "digits": NamedImages(load_digits, classes=10),
    "cifar10": NamedImages(load_cifar, classes=10),
    "cifar100": NamedImages(load_cifar, classes=100),
}
SPLITS = ("train", "test")
MOST = {"image size": 10**5, "number of images": 10**9, "steps": 10**6}


@checked_types
def open_dataset(
    name_or_path: str | Path,
    *,
    split: str = "test",
    root: str | Path | None = None,
    size: int | None = None,
    n: int | None = None,
    steps: int | None = None,
) -> OpenImageSet:
    """Opens a data set, whose images stay on disk until they are asked for, where that can be.

    They do in folders, tars, sets of torchvision and `datasets`, packed files, mapped arrays, and
    where a function returns a map-style data set; all others are in memory.

    Args:
        name_or_path: A name of `DATASETS`, `EVENT_SETS` or `TORCHVISION`, or `"tinyimagenet"`; a
            folder or a `.tar` of class folders; tars in the layout of WebDataset, or a folder of
            them; a folder with `images.npy` and `labels.npy`; an `.npz` file of arrays; a
            `.safetensors` of `pack_images`; a folder that Hugging Face's `datasets` saved; or a
            function, `file.py:make_data`, whose code then runs.
        split: `"train"` or `"test"`. A folder that holds a folder of that name is read from there;
            any other folder or tar is one set, read whole, whose split is called `"all"`.
        root: Where a named data set lies on disk, such as CIFAR-10's unpacked archive.
        size: Side of the square that every image is resized to. Default: as stored, 16 for digits.
        n: Number of images from the front. Default: all. Digits, folders, tars, mapped arrays and
            sets of torchvision and `datasets` are in a fixed random order in which the classes take
            turns, so that few images are a fair choice; CIFAR keeps its published order, other
            arrays and functions keep theirs.
        steps: Frames per recording of an event set. Default: 10, of DVS128 Gesture 16, SHD 100.

    Raises:
        InputError: If nothing of that name is known or there, it cannot be read, its labels are not
            those of its classes, or a number is out of range.
        ImportError: If the library that reads it is not installed; it names the extra to install.

    Example:
        >>> open_dataset("digits", n=64).images.shape
        torch.Size([64, 1, 16, 16])
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    for what, value in (("image size", size), ("number of images", n), ("steps", steps)):
        if value is not None and whole(value, what, 1) > MOST[what]:
            raise InputError(f"{what} must be at most {MOST[what]}, got {value}")
    name, where = str(name_or_path), Path(root) if root else None
    data: OpenImageSet
    if name in DATASETS:
        data = DATASETS[name].load(name, split, where, size)
    elif name in EVENT_SETS:
        data = load_events(name, split, where, size, steps, n)
    elif name == TINY_IMAGENET:
        data = load_tiny_imagenet(split, where, size, n)
    elif name in TORCHVISION:
        data = load_torchvision(name, split, where, size, n)
    elif is_reference(name):
        data = load_user_data(name, size, n)
    elif is_there(path := Path(name), "the data"):
        load = {".npz": load_arrays, ".safetensors": load_packed}.get(path.suffix, load_files)
        load = load_datasets_folder if is_datasets_folder(path) else load
        load = load_mapped if (path / "images.npy").is_file() else load
        tars = tars_of(path)
        data = load_tar_shards(path, tars, size, n) if tars else load(path, split, size, n)
    elif path.suffix or len(path.parts) > 1:
        raise InputError(f"no file or folder at '{name}'; {EXPECTED}")
    else:
        named = (*DATASETS, TINY_IMAGENET, *EVENT_SETS, *TORCHVISION)
        others = ("DIR", "FILE.tar", "FILE.npz", "FILE.py:make_data")
        raise unknown("data set", name, [*named, *others])
    check_labels(data.labels, len(data.images), len(data.classes))
    return data if n is None else data.take(n)


def load_dataset(
    name_or_path: str | Path,
    *,
    split: str = "test",
    root: str | Path | None = None,
    size: int | None = None,
    n: int | None = None,
    steps: int | None = None,
) -> ImageSet:
    """Loads a data set into memory; the arguments are those of `open_dataset`.

    Example:
        >>> load_dataset("digits", n=64).images.shape
        torch.Size([64, 1, 16, 16])
    """
    data = open_dataset(name_or_path, split=split, root=root, size=size, n=n, steps=steps)
    return data.loaded()
