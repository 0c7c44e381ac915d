"""Batches that do not fit into memory are halved until they do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from robust_snn.utils.errors import is_out_of_memory

_log = logging.getLogger("robust_snn")
T = TypeVar("T")


def in_parts(work: Callable[[int, int], T], start: int, stop: int) -> list[T]:
    """Calls `work(start, stop)`, or does both halves of the range where memory does not suffice.

    Returns:
        The results, in order.
    """
    try:
        return [work(start, stop)]
    except (RuntimeError, MemoryError) as error:
        if stop - start < 2 or not is_out_of_memory(error):
            raise
    _log.warning("%d images do not fit into memory; halving the batch", stop - start)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = (start + stop) // 2
    return [*in_parts(work, start, middle), *in_parts(work, middle, stop)]
