"""Images with labels, and their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.image_digests import data_digests
from robust_snn.data.lazy_images import Images, images_at, loaded
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class OpenImageSet:
    """Images with labels, in a fixed order; the images may lie on disk until they are asked for.

    Args:
        name: Registered name, or the name of the file or folder.
        split: `"train"`, `"test"`, another name that the source has for it, or `"all"` for a source
            without splits.
        images: `[N, C, H, W]`, or event frames `[N, T, C, H, W]`, float32 in [0, 1].
        labels: `[N]`, int64.
        classes: One name per label.
    """

    name: str
    split: str
    images: Images
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, n: int) -> Self:
        """Returns the first `n` images."""
        if not 1 <= n <= len(self):
            raise InputError(
                f"'{self.name}' ({self.split}) has {len(self)} images, asked for {n}; "
                f"choose between 1 and {len(self)}, or leave the number out for all"
            )
        return self._rows(np.arange(n))

    def divide(self, kept: int) -> tuple[Self, Self]:
        """Returns `kept` images, and the others, which are the last of every class; in order."""
        held = held_out(self.labels, len(self) - kept)
        return self._rows(np.flatnonzero(~held)), self._rows(np.flatnonzero(held))

    def loaded(self) -> ImageSet:
        """The set with all its images in memory."""
        images = loaded(self.images)
        return ImageSet(self.name, self.split, images, self.labels, self.classes)

    def _rows(self, rows: np.ndarray) -> Self:
        labels = self.labels[torch.from_numpy(rows)]
        return replace(self, images=images_at(self.images, rows), labels=labels)


@dataclass(frozen=True, eq=False)
class ImageSet(OpenImageSet):
    """Images with labels in memory, the one form in which data travel through the package."""

    images: Tensor

    @cached_property
    def sha256(self) -> str:
        """Digest of shape, pixels and labels: equal when and only when the data are equal."""
        return data_digests(self.images, self.labels).sha256


def balanced(labels: np.ndarray) -> np.ndarray:
    """A fixed random order in which the classes take turns: the first `n` are a fair choice of `n`,
    and part of the first `m > n`. Returns indices `[N]`."""
    shuffled = np.random.RandomState(0).permutation(len(labels))
    order: np.ndarray = shuffled[interleaved(labels[shuffled])]
    return order


def interleaved(labels: np.ndarray) -> np.ndarray:
    """Orders items so that the classes take turns: every prefix is balanced.

    Within a class the given order stays. Returns indices `[N]`.
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    turn = np.empty_like(by_class)
    turn[by_class] = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    return np.lexsort((labels, turn))


def held_out(labels: Tensor, count: int) -> np.ndarray:
    """Which items to hold out, so that every class has its share: the last ones of each.

    Shares are rounded so that they add up; a class of two or more keeps one at least.

    Args:
        labels: `[N]`.
        count: How many, between 0 and `N`.

    Returns:
        Bool `[N]`.
    """
    classes, of = np.unique(labels.cpu().numpy(), return_inverse=True)
    sizes = np.bincount(of, minlength=len(classes))
    exact = sizes * count / max(len(of), 1)
    taken = np.floor(exact).astype(int)
    most = np.maximum(sizes - 1, 0) if count <= len(of) - len(classes) else sizes
    latest = np.array([np.flatnonzero(of == index)[-1] for index in range(len(classes))])
    while (left := count - int(taken.sum())) > 0:
        # the largest remainders first; of equal ones that of the class which ends last
        order = np.lexsort((-latest, -(exact - taken)))
        taken[[index for index in order if taken[index] < most[index]][:left]] += 1
    behind = np.zeros(len(of), int)  # items of the same class that follow
    for index in range(len(classes)):
        rows = np.flatnonzero(of == index)
        behind[rows] = np.arange(len(rows))[::-1]
    chosen: np.ndarray = behind < taken[of]
    return chosen
