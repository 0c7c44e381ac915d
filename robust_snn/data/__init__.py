"""Labelled images and event frames in [0, 1], and the checks that all pass before an attack."""

from __future__ import annotations

from robust_snn.data.augment import augment, cut_out
from robust_snn.data.checks import check_images, check_labels
from robust_snn.data.datasets import DATASETS, load_dataset, open_dataset
from robust_snn.data.events import EVENT_SETS, augment_events
from robust_snn.data.image_set import ImageSet, OpenImageSet
from robust_snn.data.packed_images import pack_images

__all__ = [
    "DATASETS",
    "EVENT_SETS",
    "ImageSet",
    "OpenImageSet",
    "augment",
    "augment_events",
    "check_images",
    "check_labels",
    "cut_out",
    "load_dataset",
    "open_dataset",
    "pack_images",
]
