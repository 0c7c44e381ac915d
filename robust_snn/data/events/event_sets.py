"""Event sets as `ImageSet`s of frames `[N, T, 2, H, W]`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from robust_snn.data.builtin import DIGITS_TEST, load_digits
from robust_snn.data.events.frame_cache import cache_folder, cached
from robust_snn.data.events.frames import as_pixels, to_frames
from robust_snn.data.events.published_event_sets import EVENT_FILES, EventFiles, Source
from robust_snn.data.events.recorded_digits import record_digits
from robust_snn.data.events.spoken_digits import SPOKEN, load_spoken
from robust_snn.data.image_set import ImageSet, interleaved
from robust_snn.utils.errors import InputError

DIGITS, DIGITS_STEPS = "digits-events", 10
BINARY = "-binary"
RECORDED = (*EVENT_FILES, SPOKEN)
EVENT_SETS = (DIGITS, *RECORDED, *(name + BINARY for name in RECORDED))
MIRRORED = tuple(
    name
    for name in EVENT_SETS
    if name.removesuffix(BINARY) in EVENT_FILES and EVENT_FILES[name.removesuffix(BINARY)].mirrored
)


def load_events(
    name: str,
    split: str,
    root: Path | None,
    size: int | None = None,
    steps: int | None = None,
    n: int | None = None,
) -> ImageSet:
    """Loads an event set as frames.

    A frame holds 1/255 per event, so `eps=8/255` is a budget of 8 events per bin; bins over 255 are
    cut, which a warning tells. `digits-events` and the sets whose name ends in `-binary` hold 1
    where there was any event. Classes take turns.

    Args:
        name: A name of `EVENT_SETS`.
        split: `"train"` or `"test"`.
        root: Where the files of a published set lie.
        size: Height and width of the frames, at most the sensor's. Default: 16 for
            `digits-events`, 34 for N-MNIST, 48 for the other cameras; of SHD, how many channels
            neighbouring ones are joined to, 140.
        steps: Frames per recording. Default: 16 for DVS128 Gesture, 100 for SHD, else 10.
        n: Number of recordings; all if left out.
    """
    if name == DIGITS:
        return _digits(split, size, steps or DIGITS_STEPS, n)
    if name.removesuffix(BINARY) == SPOKEN:
        return load_spoken(name, split, root, size, steps, n, binary=name.endswith(BINARY))
    files = EVENT_FILES[name.removesuffix(BINARY)]
    if root is None:
        raise InputError(f"'{name}' needs a data root (--data-root DIR): {files.download_hint}")
    sources = files.find(root, split)
    labels = np.fromiter(chain.from_iterable(s.labels for s in sources), np.int64)
    if not len(labels):
        raise InputError(
            f"no {split} files of '{name}' in data root '{root}': {files.download_hint}"
        )
    frames = _frames(name.removesuffix(BINARY), split, root, files, sources, size, steps)
    order = interleaved(labels)[:n]
    return ImageSet(
        name=name,
        split=split,
        images=torch.from_numpy(as_pixels(frames[order], name.endswith(BINARY))),
        labels=torch.from_numpy(labels[order]),
        classes=files.classes(root) if callable(files.classes) else files.classes,
    )


def _digits(split: str, size: int | None, steps: int, n: int | None) -> ImageSet:
    digits = load_digits(DIGITS, split, None, size)
    sensor = (digits.images.shape[-2], digits.images.shape[-1])
    earlier = DIGITS_TEST if split == "train" else 0
    recordings = record_digits(digits, n, earlier=earlier)
    frames = [to_frames(events, steps, sensor) for events in recordings]
    return ImageSet(
        name=DIGITS,
        split=split,
        images=torch.from_numpy(as_pixels(np.stack(frames), binary=True)),
        labels=digits.labels[: len(frames)],
        classes=digits.classes,
    )


def _frames(
    name: str,
    split: str,
    root: Path,
    files: EventFiles,
    sources: list[Source],
    size: int | None,
    steps: int | None,
) -> np.ndarray:
    """Frames of all recordings, from the cache or into it, as bytes `[N, T, 2, H, W]`."""
    side, bins = size or files.size, steps or files.steps
    if side > min(files.sensor):
        raise InputError(f"frames of '{name}' have at most {files.sensor[0]} pixels, not {side}")

    def build() -> Iterator[np.ndarray]:
        for source in sources:
            for events in source.read():
                try:
                    yield to_frames(events, bins, files.sensor, side, files.by)
                except InputError as error:
                    raise InputError(f"'{source.path}': {error}") from None

    shape = (sum(len(s.labels) for s in sources), bins, 2, side, side)
    described = [
        (str(s.path.relative_to(root)), info.st_size, info.st_mtime_ns, s.labels, *s.times)
        for s in sources
        for info in (s.path.stat(),)
    ]
    depends_on = [name, split, files.by, described]
    return cached(cache_folder(root), f"{name}-{split}", depends_on, shape, build())
