"""Images and labels that come as arrays: those of an `.npz` file, or of a user's own function."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.checks import check_images, check_labels
from robust_snn.data.image_set import ImageSet
from robust_snn.data.pictures import resized, say_resized
from robust_snn.utils.errors import InputError, reason_of

# names of the images and the labels in a file; the last two belong to a split
PAIRS = (
    ("images", "labels"),
    ("x", "y"),
    ("{split}_images", "{split}_labels"),
    ("x_{split}", "y_{split}"),
)
FEW = (1, 2, 3)  # channels
MOST_CLASSES = 2**20  # a label beyond is a mistake, and every class up to it would get a name
_log = logging.getLogger("robust_snn")


def load_arrays(path: Path, split: str, size: int | None, n: int | None) -> ImageSet:
    """Loads an `.npz` file that holds images and labels, and `classes` if it names them.

    Raises:
        InputError: If it is damaged, has other names in it, or its arrays are no labelled images.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            known = {name: file[name] for name in file.files}
    except Exception as error:  # zip and numpy raise anything on foreign bytes
        why = reason_of(error, "; save it by numpy.savez")
        raise InputError(f"cannot read '{path}': {why}") from None
    for pair in PAIRS:
        images, labels = (name.format(split=split) for name in pair)
        if images in known and labels in known:
            part = split if "{split}" in pair[0] else "all"
            classes = known.get("classes")
            names = None if classes is None else [str(name) for name in classes]
            if others := sorted(set(known) - {images, labels, "classes"}):
                _log.warning("left out of '%s': %s", path, ", ".join(others))
            return array_set(path.stem, part, known[images], known[labels], names, size, n)
    raise InputError(
        f"'{path}' holds {', '.join(known) or 'nothing'}; expected images and labels, or x and y, "
        f"or {split}_images and {split}_labels, or x_{split} and y_{split}"
    )


def array_set(
    name: str,
    split: str,
    images: Any,
    labels: Any,
    classes: Sequence[str] | None,
    size: int | None,
    n: int | None,
) -> ImageSet:
    """Checked images and labels from arrays or tensors.

    Args:
        name: What messages and records call them.
        split: Their split.
        images: `[N, C, H, W]`, `[N, H, W, C]`, `[N, H, W]`, or event frames `[N, T, C, H, W]`;
            bytes, or floats in [0, 1].
        labels: `[N]`, integers.
        classes: Names of the classes; their numbers if left out.
        size: Side of the square that images are resized to, if any.
        n: Number of images from the front, if any.

    Raises:
        InputError: If they are anything else.
    """
    known = label_array(labels, name)
    pixels = image_tensor(images, f"images of '{name}'", n)
    if size is not None and pixels.ndim == 4:
        say_resized({tuple(pixels.shape[-2:])}, size)
        pixels = resized(pixels, size)
    names = classes or [str(number) for number in range(int(known.max(initial=0)) + 1)]
    check_images(pixels, torch.empty(0), in_chans=pixels.shape[-3], num_classes=None)
    every = torch.from_numpy(known)
    check_labels(every, len(images), len(names))
    first, whole = (len(np.unique(part)) for part in (known[:n], known))
    if n is not None and first < min(n, whole):
        _log.warning(
            "the first %d images of '%s' are of %d of its %d classes", n, name, first, whole
        )
    return ImageSet(name, split, pixels.contiguous(), every[:n].clone(), tuple(names))


def label_array(values: Any, name: str) -> np.ndarray:
    """Labels `[N]`, int64, of the set that messages call by a name.

    Raises:
        InputError: If they are none.
    """
    labels = _tensor(values, f"labels of '{name}'").numpy()
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of '{name}' must be whole numbers [N], got {labels.dtype} "
            f"{labels.shape}; of one-hot labels, take argmax(1)"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        raise InputError(
            f"labels of '{name}' must lie in 0..{MOST_CLASSES - 1}, got {labels.min()} to "
            f"{labels.max()}"
        )
    return labels.astype(np.int64)


def image_tensor(values: Any, name: str, n: int | None = None) -> Tensor:
    """Images `[N, C, H, W]` or event frames `[N, T, C, H, W]`, float32, from arrays of any layout.

    Args:
        values: As in `array_set`.
        name: What messages call them.
        n: Number of images from the front, if any.

    Raises:
        InputError: If they are no images.
    """
    pixels = _tensor(values, name)[:n]
    if not pixels.is_floating_point():
        if pixels.dtype not in (torch.uint8, torch.bool):
            raise InputError(f"{name} must be bytes or floats, got {pixels.dtype}")
        most = 1 if pixels.dtype == torch.bool else 255
        if most == 255 and pixels.numel() and pixels.max() == 1:
            raise InputError(
                f"{name} are bytes of 0 and 1, which are black next to 255; give them as bool, or "
                "multiply them by 255"
            )
        pixels = pixels.float() / most
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    first = pixels.ndim in (4, 5) and pixels.shape[-3] in FEW
    last = pixels.ndim == 4 and pixels.shape[-1] in FEW
    if first == last:
        raise InputError(
            f"{name} have shape {tuple(pixels.shape)}; expected [N, C, H, W], "
            "[N, H, W, C], [N, H, W] or event frames [N, T, C, H, W], with at most "
            f"{FEW[-1]} channels"
        )
    return (pixels.permute(0, 3, 1, 2) if last else pixels).float()


def _tensor(values: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{what} must be an array of numbers, got {values!r:.60}") from None
