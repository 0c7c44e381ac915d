"""What may be attacked, and the sentence for everything that may not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from robust_snn.data import check_images
from robust_snn.utils.errors import InputError

IMAGES = torch.linspace(0, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)
LABELS = torch.tensor([0, 1, 9, 3])
FRAMES = torch.zeros(4, 2, 3, 8, 8).index_fill(2, torch.tensor(0), 1)


def put(value: float) -> Tensor:
    images = IMAGES.clone()
    images[2, 1, 0, 0] = value
    return images


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x,
        torch.Tensor.double,
        torch.Tensor.half,
        torch.Tensor.bfloat16,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:, None].expand(-1, 5, -1, -1, -1),
        lambda x: x.clone().requires_grad_(),
    ],
    ids=["float", "double", "half", "bfloat16", "channels last", "event frames", "with gradient"],
)
def test_good_images(prepare: Callable[[Tensor], Tensor]) -> None:
    check_images(prepare(IMAGES), LABELS, in_chans=3, num_classes=10)
    check_images(prepare(IMAGES), LABELS.int(), in_chans=3, num_classes=10)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (put(torch.nan), LABELS, "1 NaN pixels, first in image 2"),
        (put(torch.inf), LABELS, "1 infinite pixels, first in image 2"),
        (put(-torch.inf), LABELS, "1 infinite pixels, first in image 2"),
        (put(1.5), LABELS, r"must lie in \[0, 1\], got 0 to 1.5"),
        (put(-1e-3), LABELS, r"must lie in \[0, 1\], got -0.001 to 1"),
        (IMAGES.mul(255).byte(), LABELS, "floats in .* torch.uint8; divide bytes by 255"),
        (FRAMES * 2, LABELS, "got 0 to 2; divide counts of events by 255"),
        (FRAMES.long(), LABELS, "got torch.int64; divide counts of events by 255"),
        (IMAGES[:, :1], LABELS, "takes 3 channels, the images have 1"),
        (IMAGES[0], LABELS[:1], r"must be \[B, C, H, W\]"),
        (IMAGES[:0], LABELS[:0], "no images to work on"),
        (IMAGES.numpy(), LABELS, "images must be a torch.Tensor, got ndarray"),
        (IMAGES, np.array([0, 1, 2, 3]), "labels must be a torch.Tensor, got ndarray"),
        (IMAGES, LABELS.float(), "labels must be integers, got torch.float32"),
        (IMAGES, LABELS[:3], r"4 images need labels of shape \(4,\), got \(3,\)"),
        (IMAGES, LABELS[:, None], r"need labels of shape \(4,\), got \(4, 1\)"),
        (IMAGES, LABELS + 1, r"labels must lie in 0..9 for 10 classes, got 1 to 10"),
        (IMAGES, LABELS - 1, r"labels must lie in 0..9 for 10 classes, got -1 to 8"),
    ],
)
def test_bad_images(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_images(images, labels, in_chans=3, num_classes=10)
    assert "\n" not in str(caught.value)
