"""Images of a user: what a function of theirs returns, `file.py:make_data`."""

from __future__ import annotations

from typing import Any

from robust_snn.data.arrays import array_set
from robust_snn.data.image_set import ImageSet, OpenImageSet
from robust_snn.data.map_style import is_map_style, open_set
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_function import load_function, short_reference

EXPECTED = "images and labels, or a data set of (image, label) pairs"


def load_user_data(reference: str, size: int | None, n: int | None) -> OpenImageSet:
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
    elif is_map_style(found):
        return open_set(found, name, "all", n, size)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InputError(f"{name} returned {type(found).__name__}, expected {EXPECTED}")
    names = None if classes is None else [str(each) for each in classes]
    return array_set(name, "all", found[0], found[1], names, size, n)
