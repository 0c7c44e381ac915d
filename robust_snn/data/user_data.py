"""Images of a user: what a function of theirs returns, `file.py:make_data`."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from robust_snn.data.arrays import array_set
from robust_snn.data.image_set import ImageSet, from_bytes
from robust_snn.data.pictures import pixels_of
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_function import load_function, short_reference

EXPECTED = "images and labels, or a data set of (image, label) pairs"


def load_user_data(reference: str, size: int | None, n: int | None) -> ImageSet:
    """Calls a function without arguments, which runs the code of its file.

    It returns arrays or tensors `(images, labels)`, a map-style data set of pairs, such as one of
    torchvision, or an `ImageSet`. Their order is kept.

    Raises:
        InputError: If there is no such function, it raises, or returns anything else.
    """
    name = short_reference(reference)
    found: Any = load_function(reference).result()
    classes = getattr(found, "classes", None)
    if isinstance(found, ImageSet):
        found = found.images, found.labels
    elif not isinstance(found, tuple | list) and hasattr(found, "__getitem__"):
        found = _pairs(found, name, n)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InputError(f"{name} returned {type(found).__name__}, expected {EXPECTED}")
    names = None if classes is None else [str(each) for each in classes]
    return array_set(name, "all", found[0], found[1], names, size, n)


def _pairs(data: Any, name: str, n: int | None) -> tuple[np.ndarray, list[int]]:
    """Images `[N, ...]` and labels of a data set of pairs."""
    images, labels = [], []
    for index in range(len(data) if n is None else min(n, len(data))):
        image, label = data[index]
        if isinstance(image, Image.Image):
            image = from_bytes(pixels_of(image, grey=True)[None])[0]
        images.append(np.asarray(image))
        labels.append(int(label))
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise InputError(f"{name} has images of shapes {sorted(shapes)}; resize them in its code")
    return np.stack(images), labels
