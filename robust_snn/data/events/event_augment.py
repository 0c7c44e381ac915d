"""Training-time augmentation of event frames."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.data.augment import at_pixels, mirrored_by_half


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
        columns = mirrored_by_half(columns, generator)
    return at_pixels(frames.flatten(1, 2), rows, columns).view_as(frames)
