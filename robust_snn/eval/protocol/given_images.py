"""Adversarial images that somebody made elsewhere, as a row of a suite: `implementation: images`.

    - {name: theirs, implementation: images, attack: theirs.npz}

The file is an `.npz`, a `.pt`, or a folder of pictures in the order of their names. It holds one
version of every evaluated image, in their order, or of those at its `positions`. They are checked
against the threat model before anything is attacked, and scored like what any attack made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_snn.attacks.threat_radius import NORMS
from robust_snn.data.arrays import image_tensor
from robust_snn.data.exact_differences import decode, unpack
from robust_snn.data.lazy_images import Images, LazyImages, loaded
from robust_snn.eval.protocol.implementation import Implementation, given_settings
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.threat_model import ConstraintViolation, Threat
from robust_snn.utils.errors import InputError, reason_of, unknown
from robust_snn.utils.user_files import is_there

GIVEN = "images"  # the implementation that a row names
KEYS = ("images", "adversarial", "x_adv", "adv_images", "adv_inputs", "adv_complete", "adv")
PICTURES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
FORMS = "an .npz or .pt file, or a folder of pictures"
CHECKED = 64  # images at once
SHOWN = 8  # digits of the digest that stands for a version


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Images that were made elsewhere.

    Attributes:
        images: `[M, C, H, W]`, float32; or, of a submission, what differs from the evaluated ones.
        positions: Which of the evaluated images they are versions of, `[M]`; all of them, in order,
            if None.
        sha256: Digest of the file.
    """

    images: Tensor | tuple[bytes, ...]
    positions: Tensor | None
    sha256: str

    def versions(self, ids: Tensor, clean: Tensor) -> Tensor:
        """The versions of images `clean`, `[B, C, H, W]`, at `ids`; the image itself where none."""
        found = clean.detach().cpu().float().clone()
        for row, image in enumerate(ids.tolist()):
            at = image
            if self.positions is not None:
                places = torch.nonzero(self.positions == image)
                if not len(places):
                    continue
                at = int(places[0])
            found[row] = self._version(at, found[row])
        return found.to(clean.device)

    def _version(self, at: int, clean: Tensor) -> Tensor:
        """The version at a place, of a clean image `[C, H, W]`."""
        if isinstance(self.images, Tensor):
            return self.images[at]
        try:
            return torch.from_numpy(decode(self.images[at], clean.numpy()))
        except ValueError as error:
            raise InputError(f"{error}; were they made for the same images?") from None

    def check(self, clean: Images, threat: Threat, name: str) -> None:
        """Refuses images that are no versions of `clean`, `[N, C, H, W]`, within the threat.

        Raises:
            InputError: Naming what does not fit.
        """
        count = len(clean)
        if self.positions is None and len(self.images) != count:
            raise InputError(
                f"'{name}' holds {len(self.images)} images, and {count} are attacked; give one "
                "for each, in order, or an array 'positions' that says which they are. A suite "
                "with a budget keeps images back: name others by calibration= or -n"
            )
        at = torch.arange(count) if self.positions is None else self.positions
        if len(at) and not 0 <= int(at.min()) <= int(at.max()) < count:
            raise InputError(f"'{name}' has positions up to {int(at.max())} of {count} images")
        if isinstance(self.images, Tensor) and self.images.shape[1:] != clean.shape[1:]:
            shapes = (tuple(x.shape[1:]) for x in (self.images, clean))
            raise InputError("'{}' holds images {}, the attacked ones are {}".format(name, *shapes))
        try:
            for ids in at.split(CHECKED):
                images = clean[ids].cpu().float()
                threat.check(self.versions(ids, images), images, f"'{name}'")
        except ConstraintViolation as error:
            raise InputError(
                f"{error}; were they made for the same images, in this order?"
            ) from None


def is_given(row: AttackSpec) -> bool:
    """Whether a row's images were made elsewhere."""
    return row.implementation == GIVEN


def given_implementation(row: AttackSpec) -> Implementation:
    """The implementation of a row whose images were made elsewhere.

    Raises:
        InputError: If the file cannot be read.
    """
    given = load_given(row.attack)

    def check(row: AttackSpec, threat: Threat) -> None:
        if settings := given_settings(row):
            raise InputError(f"'{row.name}' takes images as they are: leave {', '.join(settings)}")

    def craft(*arguments: Any) -> Any:
        raise RuntimeError("images that were made elsewhere are not crafted")

    return Implementation(
        GIVEN,
        check,
        craft,
        lambda row: 2,
        events=True,
        norms=NORMS,
        blind=lambda row: True,
        release=given.sha256[:SHOWN],
        given=given,
        called=Path(row.attack).name,
    )


def load_given(path: str | Path) -> GivenImages:
    """Reads images that were made elsewhere.

    Raises:
        InputError: If there are none at the path, or they cannot be read.
    """
    place = Path(path)
    if not is_there(place, "the images"):
        raise InputError(f"no images at '{path}'; expected {FORMS}")
    files = _pictures(place) if place.is_dir() else [place]
    states = [file.stat() for file in files]
    return _load(str(place), tuple(files), tuple((s.st_mtime_ns, s.st_size) for s in states))


@lru_cache(maxsize=4)
def _load(path: str, files: tuple[Path, ...], states: tuple[tuple[int, int], ...]) -> GivenImages:
    """The images in files, read again where the state of one of them has changed."""
    place, digest = Path(path), hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    sha256 = digest.hexdigest()
    if place.is_dir():
        names = [f"'{file}'" for file in files]
        order = np.arange(len(files))
        pictures = LazyImages(lambda at: Image.open(files[at]), order, None, lambda at: names[at])
        return GivenImages(loaded(pictures), None, sha256)
    readers = {".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt}
    if place.suffix.lower() not in readers:
        raise InputError(f"'{path}' has the ending '{place.suffix}'; expected {FORMS}")
    try:
        content = readers[place.suffix.lower()](place)
    except Exception as error:  # zip, pickle and NumPy raise anything on foreign bytes
        raise InputError(f"cannot read images from '{path}': {reason_of(error)}") from None
    positions = content.get("positions")
    images = _versions(content, path)
    if positions is not None:
        positions = torch.as_tensor(positions).long()
        if positions.shape != (len(images),) or len(positions.unique()) != len(positions):
            raise InputError(f"positions of '{path}' must be {len(images)} different numbers")
    return GivenImages(images, positions, sha256)


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, in the order of their names, numbers in them by size."""

    def key(file: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", file.name)
        return [(int(part) if part.isdigit() else -1, part) for part in parts]

    found = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES]
    if not found:
        raise InputError(f"no pictures in the folder '{folder}'; expected {', '.join(PICTURES)}")
    return sorted(found, key=key)


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_pt(path: Path) -> dict[str, Any]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, tuple | list):  # as torchattacks saves images and labels
        content = content[0]
    return dict(content) if isinstance(content, Mapping) else {"images": content}


def _versions(content: Mapping[str, Any], path: str) -> Tensor | tuple[bytes, ...]:
    """Images, or what a submission says that differs."""
    if "differences" not in content:
        return image_tensor(_chosen(content, path), f"'{path}'")
    try:
        return tuple(unpack(content))
    except (KeyError, ValueError) as error:
        raise InputError(f"cannot read images from '{path}': {reason_of(error)}") from None


def _chosen(content: Mapping[str, Any], path: str) -> Any:
    """The images among what a file holds: by a usual name, or all that there is."""
    for key in KEYS:
        if key in content:
            return content[key]
    others = [key for key in content if key != "positions"]
    if len(others) != 1:
        raise unknown(f"array of images in '{path}', which holds {others}", "images", KEYS)
    return content[others[0]]
