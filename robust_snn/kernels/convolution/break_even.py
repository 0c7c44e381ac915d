"""Up to which share of spikes the event-driven convolution is the faster one on this machine.

Each kind of convolution is timed once: the dense one, and the event-driven one of few and of many
spikes. What came out is kept in the user's cache folder by processor, threads and versions of code,
so every later process of the machine chooses alike.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.machine import processor

FEW, MANY = 0.05, 0.3  # shares of spikes that are timed; a share above the second is no candidate
WORTH = 0.9  # of the dense time at most: what is gained must exceed what one cannot measure
IMAGES, PIXELS = 64, 16 * 32 * 32  # of the batch that is timed, at most
ROUNDS, SECONDS = 7, 0.5  # of the timing, at most

_known: dict[tuple[Any, ...], float] = {}
_measuring = Lock()


def break_even(images: Tensor, weight: Tensor, stride: int, padding: int) -> float:
    """The share of spikes below which events are faster; 0 where they never are.

    Args:
        images: Spikes `[B, C, H, W]`; only their shape and type count.
        weight: `[out, C, h, w]`.
        stride: The same along both axes.
        padding: Zeros on every side.
    """
    asked = images.shape, weight.shape, stride, padding, images.dtype, torch.get_num_threads()
    known = _known.get(asked)
    if known is None:
        with _measuring:
            if asked not in _known:
                _known[asked] = _share(images, weight, stride, padding)
        known = _known[asked]
    return known


def _share(images: Tensor, weight: Tensor, stride: int, padding: int) -> float:
    """The same, measured or read; batches of about one size are one kind."""
    count, (height, width) = len(images), images.shape[2:]
    batch = 1 << (max(1, min(count, IMAGES, PIXELS // (height * width))) - 1).bit_length()
    dtype = str(images.dtype).removeprefix("torch.")
    place = f"{height}x{width}, {list(weight.shape)}, {stride}, {padding}"
    shape = (batch, *images.shape[1:])
    measure = partial(_measure, shape, images.dtype, weight, stride, padding)
    return _kept(f"{batch} images, {place}, {dtype}", measure)


def _kept(kind: str, measure: Callable[[], float]) -> float:
    """What was measured of a kind of convolution, by whichever process came first."""
    here, kept = _here(), _read()
    if kind not in kept.setdefault(here, {}):
        kept[here][kind] = measure()
        _write(kept)
    return float(kept[here][kind])


def cache_file() -> Path:
    """Where measurements are kept: `robust_snn/event_driven.json` in the user's cache folder."""
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA")
    else:
        folder = os.environ.get("XDG_CACHE_HOME")
    return Path(folder or Path.home() / ".cache") / "robust_snn" / "event_driven.json"


def measured_here() -> dict[str, float]:
    """What was measured on this machine, with as many threads and these versions, by kind."""
    return _read().get(_here(), {})


def _here() -> str:
    return f"{_machine()}, threads {torch.get_num_threads()}"


@lru_cache
def _machine() -> str:
    import numba

    from robust_snn.kernels.numba_tools.compile import SOURCES

    versions = f"torch {torch.__version__}, numba {numba.__version__}, kernels {SOURCES:08x}"
    return f"{processor()}, {versions}"


def _read() -> dict[str, dict[str, float]]:
    """What was measured before; a file that is missing or damaged holds nothing."""
    try:
        kept = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # no home folder is a RuntimeError
        return {}
    return kept if _is_sound(kept) else {}


def _is_sound(kept: Any) -> bool:
    """Whether what was read are shares by machine and kind."""
    tables = list(kept.values()) if isinstance(kept, dict) else [None]
    shares = [v for table in tables for v in (table.values() if isinstance(table, dict) else "x")]
    return all(isinstance(v, int | float) and 0 <= v <= MANY for v in shares)


def _write(kept: dict[str, dict[str, float]]) -> None:
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(), kept)
    except (OSError, RuntimeError):
        pass  # each process measures for itself


def _measure(
    shape: tuple[int, ...], dtype: torch.dtype, weight: Tensor, stride: int, padding: int
) -> float:
    """The share at which a straight line through both event-driven times meets the dense one."""
    from robust_snn.kernels.convolution.event_driven import event_driven_convolution

    draws = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    few, many = (
        (draws < share).to(dtype).contiguous(memory_format=torch.channels_last)
        for share in (FEW, MANY)
    )
    images = [many]
    if dtype == torch.float32:  # in half precision, channels-first is never the faster one
        images.append(many.contiguous())
    work: list[Callable[[], object]] = [
        *(partial(event_driven_convolution, x, weight, None, stride, padding) for x in (few, many)),
        *(partial(F.conv2d, x, weight, None, stride, padding) for x in images),
    ]
    at_few, at_many, *dense = _least_seconds(work)
    slope = max(at_many - at_few, 1e-9) / (MANY - FEW)
    share = FEW + (WORTH * min(dense) - at_few) / slope
    return 0.0 if share < FEW else round(min(share, MANY), 4)  # to count spikes costs time too


def _least_seconds(work: list[Callable[[], object]]) -> list[float]:
    """The least time of each call, over interleaved rounds."""
    for run in work:
        run()  # compiles
    least, begin = [float("inf")] * len(work), time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - begin > SECONDS:
            break
        for place, run in enumerate(work):
            start = time.perf_counter()
            run()
            least[place] = min(least[place], time.perf_counter() - start)
    return least
