"""The published event sets: how their files are found and split, and the frames made of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from robust_snn.data.events.formats import (
    read_aedat2,
    read_aedat3,
    read_aedat4,
    read_events,
    read_gesture_array,
    read_nmnist,
)
from robust_snn.utils.errors import InputError, reason_of


@dataclass(frozen=True)
class Source:
    """One file with one recording or several.

    Attributes:
        path: The file.
        labels: Label of every recording.
        read: Yields the events of every recording.
        times: When each recording begins and ends, where the file holds several.
    """

    path: Path
    labels: tuple[int, ...]
    read: Callable[[], Iterator[np.ndarray]]
    times: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class EventFiles:
    """A published set.

    Attributes:
        find: Lists the files of a split below a data root, in a fixed order.
        download_hint: Which archives to unpack into the data root, and what must lie in it then.
        sensor: Height and width of the sensor.
        size: Height and width of the frames.
        steps: Number of frames.
        by: How events are binned.
        classes: One name per label, or what finds them below a data root.
        mirrored: Whether training may swap left and right, which elsewhere mean something.
    """

    find: Callable[[Path, str], list[Source]]
    download_hint: str
    sensor: tuple[int, int]
    size: int
    steps: int
    by: Literal["time", "count"]
    classes: tuple[str, ...] | Callable[[Path], tuple[str, ...]]
    mirrored: bool = False


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)


def nmnist(root: Path, split: str) -> list[Source]:
    """`Train/0/00001.bin`, ..., `Test/9/...`, as the two published archives unpack."""
    files = sorted((root / split.capitalize()).glob("[0-9]/*.bin"))
    return [_single(path, int(path.parent.name), read_nmnist) for path in files]


def cifar10_dvs(root: Path, split: str) -> list[Source]:
    """`airplane/cifar10_airplane_0.aedat`, ...: 1000 files per class, or tonic's `.aedat4`.

    As in the papers, the first nine tenths of every class, by number, are for training.
    """
    sources = []
    for label, name in enumerate(CIFAR):
        files = [*(root / name).glob("*.aedat"), *(root / name).glob("*.aedat4")]
        files.sort(key=lambda path: (_number(path), path.name))
        part = files[: len(files) * 9 // 10] if split == "train" else files[len(files) * 9 // 10 :]
        readers = {".aedat": read_aedat2, ".aedat4": read_aedat4}
        sources += [_single(path, label, readers[path.suffix]) for path in part]
    return sources


def caltech_classes(root: Path) -> tuple[str, ...]:
    """Names of N-Caltech101's folders: 100 objects and a background."""
    return tuple(sorted(path.name for path in (root / "Caltech101").glob("*/") if path.is_dir()))


def n_caltech101(root: Path, split: str) -> list[Source]:
    """`Caltech101/accordion/image_0001.bin`, ..., as the published archive unpacks.

    It has no split: as of CIFAR10-DVS, the first nine tenths of every class are for training.
    """
    sources = []
    for label, name in enumerate(caltech_classes(root)):
        files = sorted((root / "Caltech101" / name).glob("*.bin"), key=_number)
        part = files[: len(files) * 9 // 10] if split == "train" else files[len(files) * 9 // 10 :]
        sources += [_single(path, label, read_nmnist) for path in part]
    return sources


def gesture(root: Path, split: str) -> list[Source]:
    """`DvsGesture/` as published, or tonic's `ibmGestureTrain/` and `ibmGestureTest/`.

    Both split by person: the first 23 for training, the other 6 for testing.
    """
    arrays = sorted((root / f"ibmGesture{split.capitalize()}").glob("user*/*.npy"))
    if arrays:
        return [_single(path, int(path.stem), read_gesture_array) for path in arrays]
    folder = root / "DvsGesture"
    trials = folder / f"trials_to_{split}.txt"
    if not trials.is_file():
        return []
    names = [line.strip() for line in trials.read_text(encoding="utf-8").splitlines()]
    return [_trial(folder / name) for name in names if name]


def _trial(path: Path) -> Source:
    """A recording of one person, cut into gestures by the times in its table."""
    table = path.with_name(f"{path.stem}_labels.csv")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [tuple(map(int, row)) for row in list(csv.reader(file))[1:] if row]
        labels = tuple(label - 1 for label, _, _ in rows)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the gestures of '{path.name}': {reason_of(error)}"
        ) from error

    def read() -> Iterator[np.ndarray]:
        events = read_events(read_aedat3, path)
        for _, start, stop in rows:
            low, high = np.searchsorted(events["t"], (start, stop))
            yield events[low:high]

    return Source(path, labels, read, tuple((start, stop) for _, start, stop in rows))


def _single(path: Path, label: int, reader: Callable[[Path], np.ndarray]) -> Source:
    def read() -> Iterator[np.ndarray]:
        yield read_events(reader, path)

    return Source(path, (label,), read)


def _number(path: Path) -> int:
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else 0


COUNTED = partial(EventFiles, by="count", size=48)
# name -> files; a new set is one row, and its frames and their binary form follow
EVENT_FILES = {
    "dvs128-gesture": COUNTED(
        gesture,
        download_hint="unpack DvsGesture.tar.gz there, or tonic's ibmGestureTrain.tar.gz and "
        "ibmGestureTest.tar.gz, so that the folder 'DvsGesture' or 'ibmGestureTrain' lies in it",
        sensor=(128, 128),
        steps=16,
        classes=GESTURES,
    ),
    "cifar10-dvs": COUNTED(
        cifar10_dvs,
        download_hint="unpack the ten archives airplane.zip to truck.zip there, so that the "
        "folders 'airplane' to 'truck' with .aedat (or tonic's .aedat4) files lie in it",
        sensor=(128, 128),
        steps=10,
        classes=CIFAR,
        mirrored=True,
    ),
    "n-caltech101": COUNTED(
        n_caltech101,
        download_hint="unpack Caltech101.zip of the archive there, so that the folder 'Caltech101' "
        "with a folder of .bin files for each class lies in it",
        sensor=(180, 240),
        steps=10,
        classes=caltech_classes,
        mirrored=True,
    ),
    "n-mnist": EventFiles(
        nmnist,
        download_hint="unpack Train.zip and Test.zip there, so that the folders 'Train' and 'Test' "
        "with subfolders '0' to '9' of .bin files lie in it",
        sensor=(34, 34),
        size=34,
        steps=10,
        by="time",
        classes=tuple(str(digit) for digit in range(10)),
    ),
}
