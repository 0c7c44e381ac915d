"""Frames on disk: built once, whole or not at all, and found again while nothing has changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from robust_snn.utils.atomic_files import write_whole
from robust_snn.utils.errors import InputError

_log = logging.getLogger("robust_snn")
DIGITS = 64  # of the digest of all frames, at the end of their file
VERSION = 1  # of how events become frames; a new one makes old files unknown


def cached(
    folder: Path,
    name: str,
    depends_on: object,
    shape: tuple[int, ...],
    frames: Iterable[np.ndarray],
) -> np.ndarray:
    """Frames `[N, T, 2, H, W]` as a read-only memory map of bytes.

    They are written one recording at a time, so memory holds no more than one.

    Args:
        folder: Where the file goes.
        name: What its name begins with.
        depends_on: Everything that the frames depend on, as JSON.
        shape: `(N, T, 2, H, W)`.
        frames: Counts of every recording, `[T, 2, H, W]`; over 255 they are cut. Asked for only if
            the file is not there.
    """
    text = json.dumps([VERSION, depends_on, shape], sort_keys=True)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"
    found = _mapped(path, shape)
    if found is not None:
        return found
    _log.info("building event frames in %s", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: _write(file, shape, frames))
    except OSError as error:
        raise InputError(
            f"cannot write event frames to '{folder}': {error.strerror or error}; "
            "name another folder in the environment variable ROBUST_SNN_CACHE"
        ) from error
    found = _mapped(path, shape)
    if found is None:
        raise InputError(f"event frames in '{path}' cannot be read back; is the disk sound?")
    return found


def cache_folder(root: Path) -> Path:
    """Where frames go: `$ROBUST_SNN_CACHE`, or a folder beside the data."""
    return Path(os.environ.get("ROBUST_SNN_CACHE") or root / "robust_snn_frames")


def _write(file: BinaryIO, shape: tuple[int, ...], frames: Iterable[np.ndarray]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    digest, saturated, total = hashlib.sha256(), 0, 0
    for counts in frames:
        content = np.minimum(counts, 255).astype(np.uint8).tobytes()
        file.write(content)
        digest.update(content)
        saturated += int(np.maximum(counts - 255, 0).sum())
        total += int(counts.sum())
    file.write(digest.hexdigest().encode())
    if saturated:
        _log.warning("%.2f %% of the events are beyond 255 in a bin", 100 * saturated / total)


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The frames in a file, or None if it is not there or not as it was written."""
    if not path.exists():
        return None
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as file:
            file.seek(-DIGITS, os.SEEK_END)
            digest = file.read()
    except Exception as error:  # NumPy and the system raise anything on foreign bytes
        _log.warning("%s is damaged and will be made again: %s", path, error)
        return None
    ours = found.shape == shape and found.dtype == np.uint8
    if not ours or digest != hashlib.sha256(found).hexdigest().encode():
        _log.warning("%s is damaged and will be made again", path)
        return None
    return found
