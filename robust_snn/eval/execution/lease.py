"""Claims where nothing can be locked: files that say who is at work, and that it still is.

A claim holds as long as its file changes. It is over once a process has seen it unchanged for a
while by its own clock, so that clocks need not agree; or at once where it was made by a process of
this machine that is gone. Two processes may still claim the same: then both do the same work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robust_snn.utils.atomic_files import is_gone, process_mark, write_text
from robust_snn.utils.folder_lock import SAY_AFTER, say_locked
from robust_snn.utils.places import remote_errors

LEASE = 60.0  # seconds without a sign of life after which a claim is over
BEAT = LEASE / 6  # seconds between two signs
LOOK = 0.25  # seconds between two looks at a claim of another process
_seen: dict[str, tuple[str, float]] = {}  # what a claim said, and since when it does


@contextmanager
def leased(path: Path, wait: float | None = None) -> Iterator[bool]:
    """Claims a file for this process; the arguments are those of `locked`.

    Yields:
        Whether no other process has it, as far as can be told.

    Raises:
        OSError: If the place cannot be read or written.
    """
    mark = process_mark()
    if not _claimed(path, mark, wait):
        yield False
        return
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(path, mark, ended), daemon=True)
    beats.start()
    try:
        yield True
    finally:
        ended.set()
        beats.join()
        with suppress(OSError):  # else it ends by itself
            if _holder(path) == mark:
                path.unlink(missing_ok=True)


def _claimed(path: Path, mark: str, wait: float | None) -> bool:
    """Whether a claim was made in time."""
    began, say_at = time.monotonic(), SAY_AFTER
    while True:
        if _is_free(path):
            write_text(path, f"{mark} 0")
            if _holder(path) == mark:  # nobody else has claimed it meanwhile
                return True
        waited = time.monotonic() - began
        if wait is not None and waited >= wait:
            return False
        if wait is None and waited > say_at:
            say_at = float("inf")  # once
            say_locked(path)
        time.sleep(LOOK)


def _is_free(path: Path) -> bool:
    said = _read(path)
    if not said or is_gone(said.split()[0]):
        return True
    before, since = _seen.get(str(path), ("", 0.0))
    if said != before:
        _seen[str(path)] = said, time.monotonic()
        return False
    return time.monotonic() - since > LEASE


def _beat(path: Path, mark: str, ended: threading.Event) -> None:
    number = 0
    while not ended.wait(BEAT):
        number += 1
        with suppress(OSError):  # the next result says what is wrong with the place
            write_text(path, f"{mark} {number}")


def _holder(path: Path) -> str:
    return " ".join(_read(path).split()[:1])


def _read(path: Path) -> str:
    """What a claim says; nothing where there is none."""
    try:
        with remote_errors(path):
            return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
