"""Training-time augmentation, one random draw per image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(
    images: Tensor, generator: torch.Generator, *, pad: int = 4, flip: bool = True
) -> Tensor:
    """Shifts each image at random by up to `pad` pixels, and mirrors half of them.

    The result depends on the images and the generator's state alone; torchvision's transforms draw
    from the global generator, and once per batch. Leave `flip` off for digits and letters.

    Args:
        images: `[B, C, H, W]`, on any device.
        generator: A generator on the CPU, so that every device sees the same draws.
        pad: Zero pixels added on each side before the crop back to `H` x `W`.
        flip: Whether to mirror left and right with probability one half.
    """
    batch, _, height, width = images.shape
    top, left = torch.randint(2 * pad + 1, (2, batch, 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    if flip:
        columns = mirrored_by_half(columns, generator)
    return at_pixels(F.pad(images, (pad, pad, pad, pad)), rows, columns)


def mirrored_by_half(columns: Tensor, generator: torch.Generator) -> Tensor:
    """Columns `[B, W]`, of half of the images from right to left."""
    mirrored = torch.rand(len(columns), 1, generator=generator) < 0.5
    return torch.where(mirrored, columns.flip(1), columns)


def at_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of images `[B, C, ...]` at rows `[B, H]` and columns `[B, W]`, `[B, C, H, W]`."""
    rows, columns = (x.to(images.device, non_blocking=True) for x in (rows, columns))
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    chosen = images[sample, :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
    return chosen.permute(0, 3, 1, 2).contiguous()


def cut_out(images: Tensor, generator: torch.Generator, *, side: int = 16) -> Tensor:
    """Blackens a square of each image around a random pixel (DeVries and Taylor, 2017).

    Args:
        images: `[B, C, H, W]`, on any device.
        generator: A generator on the CPU.
        side: Side of the square; what lies outside the image is lost.
    """
    batch, _, *sizes = images.shape
    inside = []
    for size in sizes:
        centre = torch.randint(size, (batch, 1), generator=generator)
        place = torch.arange(size) - centre
        inside.append((place >= -(side // 2)) & (place < side - side // 2))
    square = (inside[0][:, :, None] & inside[1][:, None]).to(images.device, non_blocking=True)
    return images.masked_fill(square[:, None], 0.0)
