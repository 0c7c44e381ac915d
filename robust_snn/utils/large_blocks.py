"""Large blocks of memory that go back to the system once they are free.

The allocator of glibc learns from the first large block that is freed to keep those of its size.
Batches whose size differs each time, as fewer and fewer images are left, then lie in pieces between
each other, and a process grows to twice what it holds.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import lru_cache

LARGE = 1 << 22  # bytes of a block; smaller ones are dear to map, and their pieces are small
_MMAP_THRESHOLD = -3  # of mallopt


@lru_cache
def give_back_large_blocks() -> None:
    """From now on, this process gives large blocks back; nothing happens without glibc."""
    if sys.platform.startswith("linux"):
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE)
