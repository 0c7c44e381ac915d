"""How Numba compiles kernels: no rounding is ever changed, and machine code is kept on disk.

Only exact transformations are allowed where membranes come about: no fused multiply-add, no
reassociation. So a compare with the threshold sees the same bits as in the PyTorch reference.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_log = logging.getLogger("robust_snn")
_said: list[str] = []  # why kernels are not kept, once it was said

# Numba recompiles a cached kernel when its own file changes, but not when a file it calls does.
# Kernels take this number as a default argument, which makes it a part of their cache key.
_KERNELS = Path(__file__).parents[1]
_OTHERS = (
    "convolution/event_driven.py",
    "convolution/spike_lists.py",
    "philox.py",
    "spiking/codes.py",
    "spiking/firing_probability.py",
)
_FILES = sorted([*_KERNELS.rglob("numba*/*.py"), *(_KERNELS / name for name in _OTHERS)])
SOURCES = int.from_bytes(
    hashlib.blake2b(b"".join(path.read_bytes() for path in _FILES), digest_size=4).digest(),
    "little",
)


# Only compiled code calls helpers, so wrappers for Python would be compiled for nothing.
_HELPER: dict[str, Any] = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a helper that kernels call."""
    return numba.njit(**_HELPER)(function)


def backward_helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a helper of the backward pass, where a fused multiply-add only rounds less."""
    return numba.njit(fastmath={"contract"}, **_HELPER)(function)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a kernel that threads can share, and caches it on disk.

    Numba caches beside the source, else in the user's cache folder or in `NUMBA_CACHE_DIR`. Where
    none can be written, the kernel is compiled once per process, which a log line says.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        _say_uncached("no folder for them can be written")
        return numba.njit(**options)(function)
    cache = compiled._cache
    cache.load_overload = _if_possible(cache.load_overload)
    cache.save_overload = _if_possible(cache.save_overload)
    return compiled


def _if_possible(access: Callable[..., Any]) -> Callable[..., Any]:
    """An access to the cache that leaves the kernel as it is where the disk is full or fails."""

    def tried(*args: Any) -> Any:
        try:
            return access(*args)
        except OSError as error:
            _say_uncached(error.strerror or str(error))
            return None

    return tried


def _say_uncached(why: str) -> None:
    """Says once that compiling, up to a minute or two, is not done once for all."""
    if not _said:
        _said.append(why)
        _log.warning(
            "compiled kernels cannot be kept (%s), so each process compiles them again: set "
            "NUMBA_CACHE_DIR to a folder that can be written",
            why,
        )
