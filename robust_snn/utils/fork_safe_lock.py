"""Locks that a forked process has anew."""

from __future__ import annotations

import os
import threading
from typing import Any


class ForkSafeLock:
    """A reentrant lock that is free in a forked process, whatever the parent's threads did.

    A fork keeps locks, but not the threads that would give them back.
    """

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        if not self._lock._is_owned():  # else the thread that forked gives it back
            self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
