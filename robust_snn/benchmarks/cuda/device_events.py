"""Times on a device: events around each call, after warm-up, in interleaved rounds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch

from robust_snn.benchmarks.timing import Times, median

WARM_UP = 3
FEWEST = 3  # rounds, however long they take
CYCLES = 2e9  # of a GPU in a second, at most
MIB = 1 << 20


class Precision(NamedTuple):
    """How convolutions round: in TF32, or in bf16 with activations channels-last."""

    tf32: bool = False
    half: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.half else torch.float32


PRECISIONS = {
    "float32": Precision(),
    "TF32": Precision(tf32=True),
    "bf16, channels-last": Precision(half=True),
}


def interleave_on(
    device: torch.device,
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float = 2.0,
    queued: Collection[str] = (),
) -> tuple[Times, dict[str, str]]:
    """Milliseconds of each candidate in each round, and why one that failed has none.

    Args:
        candidates: What is timed, by name.
        rounds: The most rounds; fewer where they would take longer than `seconds`.
        queued: Candidates for which the GPU finds its queue full and its cache without the inputs,
            so that the time is that of the kernels. For others it is what a caller waits for,
            launches included.
    """
    failed: dict[str, str] = {}
    launching: dict[str, float] = {}
    _return_free_memory(device)
    for name, candidate in candidates.items():
        try:
            launching[name] = _seconds_to_launch(device, candidate)
        except Exception as error:  # out of memory, or a library that cannot do it
            failed[name] = in_a_line(error)
            _return_free_memory(device)
    times: Times = {name: [] for name in launching}
    start = time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST and time.perf_counter() - start > seconds:
            break
        for name, found in times.items():
            ahead = 2 * launching[name] if name in queued else 0.0
            found.append(_milliseconds(device, candidates[name], ahead))
    return times, failed


def in_a_line(error: Exception) -> str:
    """What went wrong, short enough for a table."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


def _seconds_to_launch(device: torch.device, run: Callable[[], object]) -> float:
    """Warms up, and says how long the CPU needs for the last of these calls."""
    begin = 0.0
    for _ in range(WARM_UP):
        _wait(device)
        begin = time.perf_counter()
        run()
    found = time.perf_counter() - begin
    _wait(device)
    return found


def _milliseconds(device: torch.device, run: Callable[[], object], ahead: float) -> float:
    """The time of a call that the CPU launches while the GPU is busy for some seconds, or none."""
    _wait(device)
    if device.type == "cpu":
        begin = time.perf_counter()
        run()
        return (time.perf_counter() - begin) * 1e3
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    if ahead:
        torch.cuda._sleep(int(ahead * CYCLES))
        _fill_cache(device)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def _return_free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _fill_cache(device: torch.device) -> None:
    """Reads more than any cache holds; what was written before is then in memory."""
    if device not in _unrelated:
        _unrelated[device] = torch.zeros(256 * MIB // 4, device=device)
    _unrelated[device].sum()


_unrelated: dict[torch.device, torch.Tensor] = {}


def copy_speed(device: torch.device, mib: int = 512) -> float:
    """Bytes that a copy within the device reads and writes in a millisecond."""
    source = torch.randn(mib * MIB // 4, device=device)
    target = torch.empty_like(source)
    work = {"copy": lambda: target.copy_(source)}
    times, _ = interleave_on(device, work, 15, queued=work)
    return 2 * source.nbytes / median(times["copy"])


def added_device_memory(device: torch.device, run: Callable[[], object]) -> float:
    """MiB by which the tensors on a GPU grow at most while a call runs; nan on a CPU."""
    if device.type != "cuda":
        return float("nan")
    run()  # what is made once is no part of it
    _wait(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    _wait(device)
    return round((torch.cuda.max_memory_allocated(device) - before) / MIB, 1)
