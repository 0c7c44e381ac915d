"""Spiking Heidelberg Digits (Cramer et al., TNNLS 2020): spoken digits as spikes of a cochlea."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_snn.data.events.frames import as_pixels
from robust_snn.data.image_set import ImageSet, interleaved
from robust_snn.utils.errors import InputError, missing_extra, reason_of

SPOKEN = "shd"
UNITS, CHANNELS, STEPS = 700, 140, 100
SECONDS = 1.4  # what the bins cover; the longest recording takes 1.37
HINT = "unpack shd_train.h5.zip and shd_test.h5.zip there, so that shd_train.h5 lies in it"


def load_spoken(
    name: str,
    split: str,
    root: Path | None,
    size: int | None,
    steps: int | None,
    n: int | None,
    binary: bool,
) -> ImageSet:
    """Loads spoken digits as frames `[N, T, size, 1, 1]`: a channel per group of frequencies.

    A convolution of a single pixel is a dense layer, so `snn_sew7b` reads them, and other
    networks whose poolings leave a pixel be. Bins take the same time in every recording. Classes
    take turns.

    Args:
        name: What the set is called.
        split: `"train"` or `"test"`.
        root: Where `shd_train.h5` and `shd_test.h5` lie.
        size: Channels that the 700 units are joined to, neighbours with neighbours.
        steps: Time bins.
        n: Number of recordings; all if left out.
        binary: Whether a bin holds 1 for any spike, and not 1/255 for each.

    Raises:
        InputError: If the file is not there, or is not of this set.
    """
    if root is None:
        raise InputError(f"'{name}' needs a data root (--data-root DIR): {HINT}")
    channels, bins = size or CHANNELS, steps or STEPS
    if channels > UNITS:
        raise InputError(f"frames of '{name}' have at most {UNITS} channels, not {channels}")
    path = root / f"shd_{split}.h5"
    if not path.is_file():
        raise InputError(f"no {split} files of '{name}' in data root '{root}': {HINT}")
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "events") from error
    try:
        with h5py.File(path) as file:
            labels = np.asarray(file["labels"]).astype(np.int64)
            classes = tuple(key.decode() for key in file["extra/keys"])
            order = interleaved(labels)[:n]
            spikes = file["spikes"]
            frames = np.stack([_counts(spikes, i, bins, channels) for i in order])
    except Exception as error:  # h5py raises anything on broken or foreign files
        why = reason_of(error, "; is it complete?")
        raise InputError(f"cannot read spikes from '{path}': {why}") from error
    return ImageSet(
        name=name,
        split=split,
        images=torch.from_numpy(as_pixels(frames[..., None, None], binary)),
        labels=torch.from_numpy(labels[order]),
        classes=classes,
    )


def _counts(spikes: Any, index: int, steps: int, channels: int) -> np.ndarray:
    """Spikes of a recording per bin and channel, `[T, channels]`, at most 255."""
    times = np.asarray(spikes["times"][index]).astype(np.float64)
    units = np.asarray(spikes["units"][index]).astype(np.int64)
    if len(times) != len(units) or not ((units >= 0) & (units < UNITS)).all():
        raise ValueError(f"recording {index} has spikes of other units than 0 to {UNITS - 1}")
    if not ((times >= 0) & (times < SECONDS)).all():
        raise ValueError(f"recording {index} has spikes outside of 0 to {SECONDS} s")
    place = (times * steps / SECONDS).astype(np.int64) * channels + units * channels // UNITS
    counts = np.bincount(place, minlength=steps * channels)
    return np.minimum(counts, 255).astype(np.uint8).reshape(steps, channels)
