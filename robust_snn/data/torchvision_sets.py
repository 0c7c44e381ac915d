"""Data sets of torchvision by their names there, such as `FashionMNIST`, from files on disk."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from robust_snn.data.image_set import OpenImageSet, balanced
from robust_snn.data.lazy_images import LazyImages
from robust_snn.data.map_style import Pairs, labels_of
from robust_snn.utils.errors import InputError

# labelled images; what other sets of torchvision hold has no label per image
# fmt: off
TORCHVISION = (
    "Caltech101", "Caltech256", "CLEVRClassification", "Country211", "DTD", "EuroSAT", "FER2013",
    "FGVCAircraft", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "ImageNet", "Imagenette",
    "KMNIST", "MNIST", "OxfordIIITPet", "PCAM", "QMNIST", "RenderedSST2", "SEMEION", "STL10",
    "SVHN", "StanfordCars", "USPS",
)
# fmt: on
_OTHER_SPLITS = {
    ("ImageNet", "test"): "val",
    ("Imagenette", "test"): "val",
    ("FGVCAircraft", "train"): "trainval",
    ("OxfordIIITPet", "train"): "trainval",
}


def load_torchvision(
    name: str, split: str, root: Path | None, size: int | None, n: int | None
) -> OpenImageSet:
    """Opens a set that lies in `root` as torchvision's own download leaves it.

    Classes take turns, so that the first `n` images are spread over all of them. Images are decoded
    as they are asked for, and once before that where the set shows its labels with them alone.

    Raises:
        InputError: If the files are not there.
    """
    import torchvision.datasets  # slow to import, needed here only

    remedy = f"torchvision.datasets.{name}(root, download=True) fetches it, where it can"
    if root is None:
        raise InputError(f"'{name}' needs a data root (--data-root DIR): {remedy}")
    source = getattr(torchvision.datasets, name)
    takes = inspect.signature(source).parameters
    arguments: dict[str, Any] = {}
    if "train" in takes:
        arguments = {"train": split == "train"}
    elif "split" in takes:
        arguments = {"split": _OTHER_SPLITS.get((name, split), split)}
    try:
        data = source(root, **arguments)
    except (RuntimeError, OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"no '{name}' in data root '{root}' ({line:.120}); {remedy}") from None
    labels = labels_of(data)
    order = balanced(labels)[:n]
    known = getattr(data, "classes", None) or range(int(labels.max()) + 1)
    pairs = Pairs(data, name)
    return OpenImageSet(
        name=name,
        split=split if arguments else "all",
        images=LazyImages(pairs.image, order, size, pairs.name),
        labels=torch.from_numpy(labels[order]),
        classes=tuple(str(each) for each in known),
    )
