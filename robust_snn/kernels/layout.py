"""Memory layouts: kernels see `[T, B, N]` in storage order, whichever way the channels lie."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.kernels.large_pages import in_large_pages

_TO_LAST, _TO_FIRST = (0, 1, 3, 4, 2), (0, 1, 4, 2, 3)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether `[T, B, C, H, W]` lies in memory as `[T, B, H, W, C]`."""
    if tensor.dim() != 5 or tensor.is_contiguous():
        return False
    return tensor.permute(_TO_LAST).is_contiguous()


def storage_view(tensor: Tensor, last: bool) -> Tensor:
    """The tensor with its dimensions in storage order, contiguous; copies only if it must."""
    return (tensor.permute(_TO_LAST) if last else tensor).contiguous()


def storage_sample(sample: torch.Size, last: bool) -> torch.Size:
    """The shape of one sample in storage order."""
    return torch.Size((*sample[1:], sample[0])) if last else sample


def logical_view(stored: Tensor, last: bool) -> Tensor:
    """Undoes `storage_view`."""
    return stored.permute(_TO_FIRST) if last else stored


def empty_stack(like: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Memory for `[steps, B, ...]` in the layout of `like`."""
    last = is_channels_last(like)
    sample = storage_sample(like.shape[2:], last)
    stack = like.new_empty(steps, like.shape[1], *sample, dtype=dtype)
    return logical_view(in_large_pages(stack), last)


def is_one_step(stack: Tensor) -> bool:
    """Whether one step of `[T, ...]` stands for all."""
    return len(stack) == 1 or stack.stride(0) == 0
