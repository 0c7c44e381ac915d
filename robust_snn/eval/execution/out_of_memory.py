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
        if not _may_help(error, stop - start):
            raise
    _make_room(stop - start)
    middle = (start + stop) // 2
    return [*in_parts(work, start, middle), *in_parts(work, middle, stop)]


def on_fewer(work: Callable[[int], T], count: int) -> tuple[int, T]:
    """Calls `work(count)`, with half of the count where memory does not suffice.

    Returns:
        The count that it took, and the result.
    """
    try:
        return count, work(count)
    except (RuntimeError, MemoryError) as error:
        if not _may_help(error, count):
            raise
    _make_room(count)
    return on_fewer(work, count // 2)


def _may_help(error: Exception, count: int) -> bool:
    """Whether fewer images may help against an error."""
    return count > 1 and is_out_of_memory(error)


def _make_room(count: int) -> None:
    """Gives cached memory back, after the error, which holds tensors, is gone."""
    _log.warning("%d images do not fit into memory; halving the batch", count)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
