"""What is measured in a process of its own: added memory (Linux), and the first call."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable

import torch

from robust_snn.benchmarks.timing import Record


def added_memory(run: Callable[[], object]) -> float:
    """MiB by which this process grows at most while it runs."""
    _return_free_memory()
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # starts the peak anew
    run()
    return round(_status("VmHWM") - before, 1)


def in_fresh_process(code: str, **environment: str) -> float:
    """Runs code that prints a number, with more variables in its environment."""
    command, variables = [sys.executable, "-c", code], {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        raise RuntimeError(f"a measurement in a process of its own failed: {done.stderr[-500:]}")
    return float(done.stdout.split()[-1])


def peak_apart(peak: Callable[..., float], *arguments: str | int) -> float:
    """What a function of a module measures, in a process of its own with as many threads.

    Tensors are given back to the system when they are freed, so the peak is what was in use. By
    default the C library keeps some of it for later, and how much changes from run to run.
    """
    return in_fresh_process(
        f"from {peak.__module__} import {peak.__name__} as peak; import torch; "
        f"torch.set_num_threads({torch.get_num_threads()}); "
        f"print(peak({', '.join(map(repr, arguments))}))",
        MALLOC_MMAP_THRESHOLD_=str(1 << 18),
    )


def measure_first_call(folder: str) -> list[Record]:
    """Seconds of the first forward and backward pass in a fresh process, caches cold, then warm."""
    code = (
        "import time, torch; from robust_snn.neurons import LIF;"
        "x = torch.randn(4, 2, 64, requires_grad=True); start = time.perf_counter();"
        "LIF()(x).sum().backward(); print(time.perf_counter() - start)"
    )
    return [
        {"cache": cache, "seconds": round(in_fresh_process(code, NUMBA_CACHE_DIR=folder), 2)}
        for cache in ("cold", "warm")
    ]


def _return_free_memory() -> None:
    """Gives back what compilers left in the heap; a step that used it again would look small."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(name: str) -> float:
    """A field of what Linux says about this process's memory, in MiB."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    return float("nan")
