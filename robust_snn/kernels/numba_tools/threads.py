"""Shares the blocks of a kernel out to as many threads as PyTorch uses.

They are the threads of PyTorch's own operations, which compiled code calls through the OpenMP
library that PyTorch has loaded. Every caller has its own, and after an operation they spin for a
while, so that they are there at once. Where PyTorch has no such library, Python threads take their
place. Work that is done before a thread would wake stays on the caller's; how long that takes is
measured.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import llvmlite.binding as llvm
import torch

from robust_snn.kernels.numba_tools.shares import COUNT, NUMBER, RUN

VALUES_PER_SECOND = 8e9  # that a thread passes over in its cache
PYTHON_WAKES = 1e-4  # seconds, of a Python thread
TRIES, GAP = 9, 1e-4  # of the measurement: wakings, seconds of the caller alone before each

_Pointer, _Number = ctypes.c_void_p, ctypes.c_uint
_Share = ctypes.CFUNCTYPE(None, _Pointer)
_Own = ctypes.CFUNCTYPE(_Number)
_pool: ThreadPoolExecutor | None = None
_place = threading.local()  # of a Python thread among those that share a kernel
_forked = False


@ctypes.CFUNCTYPE(None, _Pointer, _Pointer, _Number, _Number)
def _python_threads(function: int, data: int, threads: int, flags: int) -> None:
    """Calls `function(data)` from several threads, as `GOMP_parallel` does."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="robust_snn")
    share = _Share(function)

    def take(number: int) -> None:
        _place.number, _place.count = number, threads
        share(data)

    others = [_pool.submit(take, number) for number in range(1, threads)]
    take(0)
    for other in others:
        other.result()


_PYTHON = _python_threads, _Own(lambda: _place.number), _Own(lambda: _place.count)


def _openmp() -> tuple[Any, ...] | None:
    """`GOMP_parallel` of the library that PyTorch itself calls, and what tells threads apart."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cpu.so"))
        return library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
    except (OSError, AttributeError):  # another system, or PyTorch without OpenMP
        return None


_functions = _openmp() or _PYTHON
_run = _functions[0]
for _symbol, _function in zip((RUN, NUMBER, COUNT), _functions, strict=True):
    llvm.add_symbol(_symbol, ctypes.cast(_function, _Pointer).value)


def _stay_alone() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # a forked child has none of the threads, and would wait
    os.register_at_fork(after_in_child=_stay_alone)


def run_blocks(kernel: Callable[..., int], tasks: int, work: int, *arguments: Any) -> None:
    """Calls `kernel(shares, tasks, arguments)`, which passes them to `run_shares`.

    Args:
        kernel: A kernel.
        tasks: Number of blocks.
        work: Values that all of it passes over, which decides how many threads are worth it.
        arguments: Further arguments of the kernel.

    Raises:
        MemoryError: If there is none for what a thread keeps.
    """
    threads = 1 if _forked else min(torch.get_num_threads(), tasks)
    if threads > 1:
        threads = max(1, min(threads, work // worth_of_a_thread()))
    if kernel(threads, tasks, arguments):
        raise MemoryError("a kernel has no memory for the membranes of a block of neurons")


@lru_cache(maxsize=1)
def worth_of_a_thread() -> int:
    """Values that each thread must have to pass over to be woken: twice what it costs to wake."""
    return int(2 * VALUES_PER_SECOND * _seconds_to_wake())


def _seconds_to_wake() -> float:
    """What it takes to call a function from two threads that does nothing."""
    if _run is _python_threads:
        return PYTHON_WAKES
    nothing, data = _Share(ctypes.CDLL(None).free), _Pointer(None)
    found = []
    for _ in range(TRIES):
        start = time.perf_counter()
        while time.perf_counter() < start + GAP:
            pass
        start = time.perf_counter()
        _run(nothing, data, _Number(2), _Number(0))
        found.append(time.perf_counter() - start)
    return median(found)
