"""Training-time augmentation of event frames."""

from __future__ import annotations

import torch
from torch import Tensor


def augment_events(
    frames: Tensor, generator: torch.Generator, *, shift: int = 5, flip: bool = True
) -> Tensor:
    """Rolls each recording by up to `shift` pixels, and mirrors half of them (TET, ICLR 2022).

    All frames of a recording move alike. TET and NSNN use it on CIFAR10-DVS; leave `flip` off where
    left and right mean something, as for gestures and digits.

    Args:
        frames: `[B, T, C, H, W]`, on any device.
        generator: A generator on the CPU, so that every device sees the same draws.
        shift: Largest number of pixels; pixels past one edge come in at the other.
        flip: Whether to mirror left and right with probability one half.
    """
    batch, height, width = len(frames), *frames.shape[-2:]
    down, right = torch.randint(-shift, shift + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height) - down) % height
    columns = (torch.arange(width) - right) % width
    if flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = (x.to(frames.device, non_blocking=True) for x in (rows, columns))
    sample = torch.arange(batch, device=frames.device)[:, None, None]
    moved = frames[sample, :, :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, T, C]
    return moved.permute(0, 3, 4, 1, 2).contiguous()
