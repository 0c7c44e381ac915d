"""The one form in which data travel through the package."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robust_snn.utils.errors import InputError

_log = logging.getLogger("robust_snn")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels, in a fixed order.

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
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, n: int) -> ImageSet:
        """Returns the first `n` images."""
        if not 1 <= n <= len(self):
            raise InputError(
                f"'{self.name}' ({self.split}) has {len(self)} images, asked for {n}; "
                f"choose between 1 and {len(self)}, or leave the number out for all"
            )
        return replace(self, images=self.images[:n], labels=self.labels[:n])

    def divide(self, kept: int) -> tuple[ImageSet, ImageSet]:
        """Returns `kept` images, and the others, which are the last of every class; in order."""
        held = held_out(self.labels, len(self) - kept)
        kept_rows, held_rows = (torch.from_numpy(np.flatnonzero(r)) for r in (~held, held))
        parts = [
            replace(self, images=self.images[rows], labels=self.labels[rows])
            for rows in (kept_rows, held_rows)
        ]
        return parts[0], parts[1]

    @cached_property
    def sha256(self) -> str:
        """Digest of shape, pixels and labels: equal when and only when the data are equal."""
        return data_digests(self.images, self.labels).sha256


class DataDigests(NamedTuple):
    """What identifies images: shape, pixels and labels of all, and each one's pixels, `N`."""

    sha256: str
    images: tuple[str, ...]


def data_digests(images: Tensor, labels: Tensor) -> DataDigests:
    """The digests of images `[N, ...]`, as float32, with labels `[N]`."""
    whole, single = hashlib.sha256(str(tuple(images.shape)).encode()), []
    for image in images:  # one by one: no copy of the whole set
        content = _content(image)
        whole.update(content)
        single.append(_digest(content))
    whole.update(labels.cpu().numpy().astype("<i8").tobytes())
    return DataDigests(whole.hexdigest(), tuple(single))


def image_digests(images: Tensor) -> list[str]:
    """A digest of the pixels of every image `[N, ...]`, as float32."""
    return [_digest(_content(image)) for image in images]


def _content(image: Tensor) -> bytes:
    return image.detach().cpu().contiguous().float().numpy().astype("<f4", copy=False).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def resized(images: Tensor, size: int | None) -> Tensor:
    """Resizes `[N, C, H, W]` to `size` x `size`: bilinear, and antialiased where it shrinks.

    A `size` of None, or the size that the images have, changes nothing.
    """
    if size is None or images.shape[-2:] == (size, size):
        return images
    out = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return out.clamp(0, 1)  # the filter's weights may add up to one rounding step more than 1


def say_resized(shapes: set[tuple[int, ...]], size: int | None) -> None:
    """Says which images, of shapes `(H, W)`, a caller's size has changed."""
    if others := sorted(shapes - {(size, size)}) if size is not None else []:
        first = "x".join(map(str, others[0]))
        more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
        _log.info("images of %s pixels%s are resized to %sx%s", first, more, size, size)


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


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Turns bytes `[N, H, W, C]` into floats `[N, C, H, W]` in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
