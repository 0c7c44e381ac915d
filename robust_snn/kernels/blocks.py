"""Elementwise formulas of several operations, computed block by block.

Operation by operation, a formula passes over memory as often as it has operations. On a block that
fits into the cache of a processor, it passes once, and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

Parts: TypeAlias = tuple[Tensor, ...]
BLOCK = 1 << 16  # elements for each thread; a few temporary tensors of that size fit into its cache


def blockwise(formula: Callable[..., Tensor], first: Tensor, *others: Tensor) -> Tensor:
    """`formula(first, *others)`, which works element by element, in the type of `first`.

    Args:
        formula: Takes tensors of any one shape.
        first: As large as the result.
        others: They broadcast to `first`.
    """
    if torch.is_grad_enabled():  # a second derivative needs the whole formula
        return formula(first, *others).to(first.dtype)
    out = torch.empty_like(first)
    for part, *parts in blocks(out, first, *others):
        part.copy_(formula(*parts))
    return out


def blockwise_product(formula: Callable[..., Tensor], first: Tensor, *others: Tensor) -> Tensor:
    """`first * formula(*others)`, element by element, in the type of `first`.

    Args:
        formula: Takes tensors of any one shape.
        first: As large as the result.
        others: They broadcast to `first`.
    """
    if torch.is_grad_enabled():  # a second derivative needs the whole formula
        return (first * formula(*others)).to(first.dtype)
    out = torch.empty_like(first)
    for product, part, *parts in blocks(out, first, *others):
        torch.mul(part, formula(*parts), out=product)
    return out


def blocks(first: Tensor, *others: Tensor) -> Iterator[Parts]:
    """The same part of several tensors, one after the other; the whole of them on GPUs.

    Args:
        first: Decides how memory is cut.
        others: They broadcast to `first`.
    """
    tensors = (first, *(other.expand_as(first) for other in others))
    if first.device.type != "cpu":
        return iter([tensors])
    outer_first = sorted(range(first.dim()), key=lambda axis: -first.stride()[axis])
    return _parts(tensors, outer_first, BLOCK * torch.get_num_threads())


def _parts(tensors: tuple[Tensor, ...], axes: list[int], limit: int) -> Iterator[Parts]:
    """Parts along the first axis, and of those that are still too large along the next."""
    if not axes or tensors[0].numel() <= limit:
        yield tensors
        return
    axis, *inner = axes
    row = tensors[0].numel() // tensors[0].shape[axis]
    rows = max(1, limit // row)
    for part in zip(*(tensor.split(rows, axis) for tensor in tensors), strict=True):
        yield from _parts(part, inner, limit)
