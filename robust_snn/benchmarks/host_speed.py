"""What a machine can do at best, measured beside every table: copies, and dense convolutions."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from robust_snn.benchmarks.timing import Record
from robust_snn.utils.machine import caches

COPIED = 1 << 24  # numbers: 64 MiB, more than a cache
IMAGES, CHANNELS, SIZE = 64, 64, 32  # of the convolution, 3x3 and channels-last
ROUNDS = 5


def host_speed() -> Record:
    """Caches, vectors, GB/s of a copy (read and written), GFLOP/s of a dense convolution."""
    source, target = torch.ones(COPIED), torch.ones(COPIED)
    last = torch.channels_last
    x = torch.rand(IMAGES, CHANNELS, SIZE, SIZE).contiguous(memory_format=last)
    weight = torch.rand(CHANNELS, CHANNELS, 3, 3).contiguous(memory_format=last)
    operations = 2 * 9 * CHANNELS * x.numel()
    copying = _least_seconds(partial(target.copy_, source))
    convolving = _least_seconds(partial(F.conv2d, x, weight, padding=1))
    return {
        "caches": caches(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "copy_gb_s": round(2 * 4 * COPIED / copying / 1e9, 1),
        "dense_gflop_s": round(operations / convolving / 1e9, 1),
    }


def _least_seconds(work: Callable[[], object]) -> float:
    work()
    least = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - start)
    return least
