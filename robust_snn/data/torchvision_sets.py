"""Data sets of torchvision by their names there, such as `FashionMNIST`, from files on disk."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_snn.data.image_set import ImageSet, interleaved
from robust_snn.data.pictures import stacked
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
_LABELS = ("targets", "labels", "_labels", "y")  # where the sets keep them


def load_torchvision(
    name: str, split: str, root: Path | None, size: int | None, n: int | None
) -> ImageSet:
    """Loads a set that lies in `root` as torchvision's own download leaves it.

    Classes take turns, so that the first `n` images are spread over all of them; only these are
    decoded, unless the set shows its labels with its images alone.

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
    labels = _labels(data)
    order = interleaved(labels)[:n]
    images = stacked(
        lambda index: data[index][0],
        order.tolist(),
        size,
        lambda index: f"image {index} of '{name}'",
    )
    known = getattr(data, "classes", None) or range(int(labels.max()) + 1)
    return ImageSet(
        name=name,
        split=split if arguments else "all",
        images=images,
        labels=torch.from_numpy(labels[order]),
        classes=tuple(str(each) for each in known),
    )


def _labels(data: Any) -> np.ndarray:
    """Labels `[N]` of a set, int64."""
    for place in _LABELS:
        if hasattr(data, place):
            return np.asarray(getattr(data, place)).astype(np.int64)
    if hasattr(data, "_samples"):
        return np.asarray([sample[-1] for sample in data._samples]).astype(np.int64)
    return np.asarray([data[index][1] for index in range(len(data))]).astype(np.int64)
