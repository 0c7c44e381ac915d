"""Frequency encoding: an image that loses its high frequencies step by step (FEEL-SNN)."""

from __future__ import annotations

import torch
from timm.models import register_notrace_module
from torch import Tensor

from robust_snn.models.encodings import DirectEncoding

SIDE, FEWER = 32, 2  # of the paper's images, and by how much a radius is below the one before


def radii(height: int, width: int, steps: int) -> list[tuple[float, float]]:
    """Highest frequency of each step, down and across.

    Half a side at first, every frequency there is, and by 2 fewer in each step for a side of 32:
    16, 14, ..., 2 in 8 steps. In longer trains it stays at 2.
    """
    shares = [max(SIDE / 2 - FEWER * step, FEWER) / SIDE for step in range(steps)]
    return [(share * height, share * width) for share in shares]


def low_pass(x: Tensor, steps: int) -> Tensor:
    """Keeps the low frequencies, fewer in every step, of images `[T, B, C, H, W]` or `[1, B, ...]`.

    out[t] = IDFT(box(radius[t]) * DFT(x[t]))
    """
    height, width = x.shape[-2:]
    down = torch.fft.fftfreq(height, 1 / height, device=x.device).abs()
    across = torch.fft.fftfreq(width, 1 / width, device=x.device).abs()[: width // 2 + 1]
    keep = torch.stack(
        [(down <= a)[:, None] & (across <= b) for a, b in radii(height, width, steps)]
    )
    spectrum = torch.fft.rfft2(x.to(torch.promote_types(x.dtype, torch.float32)))
    filtered = torch.fft.irfft2(spectrum * keep[:, None, None], s=(height, width))
    return filtered.to(x.dtype)


@register_notrace_module
class FrequencyEncoding(DirectEncoding):
    """Normalises images and shows them with fewer frequencies in each step, `[T, B, C, H, W]`.

    That is the frequency encoding of FEEL-SNN (Xu et al., NeurIPS 2024). An attack passes through
    it. Event frames lose theirs by the number of their step.

    Differences from the released code: no modulus of the inverse transform, which the paper does
    not have either and which loses the sign of a normalised pixel; the box of frequencies is
    symmetric, where the code leaves out the highest positive one.
    """

    def encode(self, x: Tensor) -> Tensor:
        return low_pass(super().encode(x), self.steps if len(x) == 1 else len(x))
