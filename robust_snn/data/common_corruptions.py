"""The common corruptions of ImageNet-C, by the library corrupt-tta (extra `corruptions`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from robust_snn.utils.errors import InputError, missing_extra

KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    # in the paper, these four are for validation
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
SEVERITIES = 5
IMPULSES = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the pixels, by severity


def corrupted(images: Tensor, kind: str, severity: int, seeds: list[int]) -> Tensor:
    """Images after a corruption of Hendrycks and Dietterich (ICLR 2019), `[B, C, H, W]`.

    Every image is corrupted as 8-bit colours; a grey one is the mean of its three channels.

    Args:
        images: `[B, C, H, W]` in [0, 1], of one channel or three.
        kind: One of `KINDS`.
        severity: 1 to 5.
        seeds: A seed for each image, whose random numbers depend on nothing else.

    Raises:
        InputError: If the images have another shape.
        ImportError: If the library is not installed; it names the extra.
    """
    try:
        from corrupt_tta import corrupt
        from skimage.util import random_noise
    except ImportError as error:
        raise missing_extra("corrupt-tta", "corruptions") from error
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"{kind} needs images [B, C, H, W] of 1 or 3 channels, got {tuple(images.shape)}"
        )
    pixels = (images.detach().cpu() * 255).round().byte().expand(-1, 3, -1, -1)
    found = np.empty(pixels.shape, np.float32)
    for row, seed in enumerate(seeds):
        before = np.ascontiguousarray(pixels[row].permute(1, 2, 0).numpy())
        if kind == "impulse_noise":  # the library draws it from no seed
            amount, rng = IMPULSES[severity - 1], np.random.default_rng(seed % 2**63)
            after = random_noise(before / 255, mode="s&p", amount=amount, rng=rng) * 255
        else:
            with _numpy_seed(seed):
                after = corrupt(before, severity, kind)
        found[row] = np.asarray(after, np.float32).transpose(2, 0, 1)
    result = torch.from_numpy(found).div_(255).clamp_(0, 1).to(images.device)
    return result.mean(1, keepdim=True) if images.shape[1] == 1 else result


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """NumPy's global generator at a seed, and then as it was."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
