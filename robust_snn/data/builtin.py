"""Images known by name: scikit-learn's digits and CIFAR."""

from __future__ import annotations

from pathlib import Path

import torch

from robust_snn.data.image_set import ImageSet, balanced
from robust_snn.data.pictures import from_bytes, resized
from robust_snn.utils.errors import InputError

DIGITS_TEST = 500  # of 1797, 50 of every digit


def load_digits(name: str, split: str, root: Path | None, size: int | None) -> ImageSet:
    """Loads scikit-learn's embedded 8x8 handwritten digits, one channel, without a download.

    The 17 grey levels 0..16 are divided by 16 and enlarged bilinearly, to 16x16 unless `size` says
    otherwise. The split is fixed: a permutation from seed 0, then classes in turns; the first 500
    are the test set (50 of every digit), the other 1297 the training set.
    """
    from sklearn.datasets import load_digits as embedded  # slow to import, needed here only

    bunch = embedded()
    order = balanced(bunch.target)
    chosen = order[:DIGITS_TEST] if split == "test" else order[DIGITS_TEST:]
    images = torch.from_numpy(bunch.images[chosen, None] / 16).float()
    return ImageSet(
        name=name,
        split=split,
        images=resized(images, 16 if size is None else size),
        labels=torch.from_numpy(bunch.target[chosen]).long(),
        classes=tuple(str(digit) for digit in range(10)),
    )


def load_cifar(name: str, split: str, root: Path | None, size: int | None) -> ImageSet:
    """Loads CIFAR-10 or CIFAR-100 with torchvision from the unpacked original archive in `root`."""
    from torchvision.datasets import CIFAR10, CIFAR100  # slow to import, needed here only

    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    remedy = f"unpack {source.filename} so that its folder '{source.base_folder}' lies in it"
    if root is None:
        raise InputError(f"'{name}' needs a data root (--data-root DIR): {remedy}")
    try:
        # torchvision unpickles these files only after their published checksums have matched
        data = source(root, train=split == "train", download=False)
    except RuntimeError as error:
        raise InputError(f"no intact '{name}' in data root '{root}': {remedy}") from error
    return ImageSet(
        name=name,
        split=split,
        images=resized(from_bytes(data.data), size),
        labels=torch.tensor(data.targets),
        classes=tuple(data.classes),
    )
