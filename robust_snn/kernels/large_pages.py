"""Memory for large results in pages of 2 MiB where Linux has them on request.

The first touch of a page costs a fault, which on a virtual machine takes longer than to fill the
page: three quarters of the time of a spiking layer whose results are new memory each time. They are
where the C library gives memory back to the system at once; smaller ones it keeps, and to ask for
large pages there has made a layer half as slow again where memory was in pieces.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

from torch import Tensor

LARGE = 1 << 25  # bytes of a tensor, the most that glibc keeps
_PAGE, _ON_REQUEST = 4096, 14  # MADV_HUGEPAGE


def in_large_pages(fresh: Tensor) -> Tensor:
    """The same tensor, of which nothing was written yet; a request that changes no value."""
    real = type(fresh) is Tensor and fresh.device.type == "cpu"  # compilers trace with others
    if real and fresh.nbytes >= LARGE and (advise := _advise()) is not None:
        first = -(-fresh.data_ptr() // _PAGE) * _PAGE
        advise(first, fresh.nbytes - _PAGE, _ON_REQUEST)  # a kernel without them declines
    return fresh


@lru_cache
def _advise() -> Any:
    """The system call `madvise`, or nothing where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return advise
