"""The images that a training takes, and how wide a network they can train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from robust_snn.cli.inputs import check_classes, square
from robust_snn.data import OpenImageSet, open_dataset
from robust_snn.models import zoo
from robust_snn.utils.errors import InputError

FEW_IMAGES = 10_000  # to train on, below which a published width is too much
WIDTHS = {"width", "head_width"}


def training_data(
    source: str,
    test: str | None,
    root: Path | None,
    img_size: Any,
    n: int | None,
    steps: int | None = None,
) -> tuple[OpenImageSet, OpenImageSet]:
    """Images to train and to test on.

    Args:
        source: What to train on.
        test: What to test on. If left out, it is the test split of `source`, or a tenth of it that
            is held out where it has no splits.
        root: Where a named data set lies on disk.
        img_size: Image size that the model was asked to have, if any.
        n: Number of training images; all if left out.
        steps: Frames per recording of an event set, if the model was asked to have some.
    """
    size = square(img_size)
    images = open_dataset(source, split="train", root=root, size=size, steps=steps)
    if test is not None or images.split != "all":
        tested = open_dataset(test or source, split="test", root=root, size=size, steps=steps)
    else:
        images, tested = _hold_out_tenth(images)
    check_classes(images.classes, tested)
    return (images if n is None else images.take(n)), tested


def fitting_width(model: str, kwargs: Mapping[str, Any], images: OpenImageSet) -> dict[str, Any]:
    """Arguments that make a model as narrow as few training images ask for; none where given.

    Args:
        model: Registered name.
        kwargs: Arguments that were asked for.
        images: What it will be trained on.
    """
    if len(images) >= FEW_IMAGES or not model.startswith("snn_") or WIDTHS & kwargs.keys():
        return {}
    name = f"{model}.digits"
    known = zoo.card(name)["model"]["kwargs"] if name in zoo.trained() else {"width": 0.25}
    if model.startswith(("snn_vgg11", "snn_vgg13", "snn_vgg16")):  # most weights are in the head
        known = {**known, "head_width": 256}
    return {key: value for key, value in known.items() if key in WIDTHS}


def _hold_out_tenth(images: OpenImageSet) -> tuple[OpenImageSet, OpenImageSet]:
    """All but the last tenth of every class, and those tenths."""
    kept = len(images) - len(images) // 10
    if kept == len(images):
        raise InputError(f"'{images.name}' is too small to hold a tenth out: name --test-data")
    train, test = images.divide(kept)
    return replace(train, split="all but a tenth"), replace(test, split="held-out tenth")
