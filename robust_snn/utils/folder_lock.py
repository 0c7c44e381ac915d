"""Locks on files, which save work and decide nothing: without any, two processes do the same.

Only locks of the system are taken, which end with their process, on another machine too. What
stands in for them where a file system has none, files that mean a lock, would outlive a machine.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger("robust_snn")
LOCK = "lock"  # the file of a folder that one process at a time works in
SAY_AFTER = 60.0  # seconds of waiting for another process
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(path: Path, wait: float | None = None) -> Iterator[bool]:
    """Locks a file for this process.

    Args:
        path: The file; made if it is not there.
        wait: Seconds to wait for another process; without end if left out, and after a while a log
            line says for which file.

    Yields:
        Whether no other process has it, as far as the file system can tell.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        ours = _acquired(lock, path, wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("no file locks in '%s': processes may do the same work twice", path.parent)
        ours = True
    try:
        yield ours
    finally:
        lock.release()


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Keeps other processes out of a folder; where one is in it, waits for it and says so.

    Args:
        folder: The folder, which is there.
        what: What the other one does, such as `"trains"`.
    """
    with ExitStack() as held:
        if not held.enter_context(locked(folder / LOCK, 0)):
            _log.warning("waiting for the process that %s in '%s'", what, folder)
            held.enter_context(locked(folder / LOCK))
        yield


def _acquired(lock: FileLock, path: Path, wait: float | None) -> bool:
    """Whether a lock was acquired in time."""
    end = SAY_AFTER if wait is None else wait
    try:
        lock.acquire(timeout=end)
    except Timeout:
        if wait is not None:
            return False
        say_locked(path)
        lock.acquire(timeout=-1)
    return True


def say_locked(path: Path) -> None:
    """Says what a process waits for, and what to do where nobody works any more."""
    _log.warning(
        "waiting for the process that has locked '%s'; if none is at work, delete it", path
    )
