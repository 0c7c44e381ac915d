"""Splits the blocks of a kernel over as many threads as PyTorch uses.

Kernels release the global interpreter lock. Plain threads compile in half the time of Numba's
parallel loops, do not spin beside PyTorch's own pool, and can be entered from several threads. To
wake one costs 50 to 300 microseconds, so work that is done sooner stays on the caller's thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

WORTH = 1 << 20  # values that a kernel passes over, per thread: a few hundred microseconds

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked child has the pool but not its threads
    os.register_at_fork(after_in_child=_forget_pool)


def run_blocks(kernel: Callable[..., Any], tasks: int, work: int, *arguments: Any) -> None:
    """Calls `kernel(start, stop, *arguments)` on equal shares of `range(tasks)`.

    Args:
        kernel: What is called, from several threads.
        tasks: Number of blocks.
        work: Values that all of it passes over, which decides how many threads are worth it.
        arguments: Further arguments of the kernel.
    """
    global _pool
    shares = max(1, min(torch.get_num_threads(), tasks, work // WORTH))
    if shares == 1:
        kernel(0, tasks, *arguments)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="robust_snn")
    bounds = [tasks * share // shares for share in range(shares + 1)]
    others = [
        _pool.submit(kernel, start, stop, *arguments)
        for start, stop in zip(bounds[1:-1], bounds[2:], strict=True)
    ]
    kernel(0, bounds[1], *arguments)
    for other in others:
        other.result()
