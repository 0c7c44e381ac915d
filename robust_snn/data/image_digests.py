"""What identifies images: digests of all of them, and of each one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from robust_snn.data.lazy_images import Images


class DataDigests(NamedTuple):
    """What identifies images: shape, pixels and labels of all, and each one's pixels, `N`."""

    sha256: str
    images: tuple[str, ...]


def data_digests(images: Images, labels: Tensor) -> DataDigests:
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
    return [image_digest(image) for image in images]


def image_digest(image: Tensor) -> str:
    """A digest of the pixels of an image, as float32."""
    return _digest(_content(image))


def _content(image: Tensor) -> bytes:
    return image.detach().cpu().contiguous().float().numpy().astype("<f4", copy=False).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
