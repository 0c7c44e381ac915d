"""The convolution of spikes in plain PyTorch: what the event-driven kernel must give."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def reference_convolution(
    spikes: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> Tensor:
    """Adds, for each place of the kernel, the weights of the inputs that lie under it and spiked.

    Args:
        spikes: Zeros and ones `[B, C, H, W]`.
        weight: `[out, C, h, w]`.
        bias: `[out]`.
        stride: The same along both axes.
        padding: Zeros on every side.

    Returns:
        `[B, out, H', W']`.
    """
    rows, columns = weight.shape[2:]
    padded = F.pad(spikes.to(weight.dtype), (padding,) * 4)
    height = (padded.shape[2] - rows) // stride + 1
    width = (padded.shape[3] - columns) // stride + 1
    out = weight.new_zeros(len(spikes), len(weight), height, width)
    if bias is not None:
        out += bias.view(-1, 1, 1)
    for row in range(rows):
        for column in range(columns):
            under = padded[:, :, row::stride, column::stride][:, :, :height, :width]
            out += torch.einsum("bchw,oc->bohw", under, weight[:, :, row, column])
    return out
