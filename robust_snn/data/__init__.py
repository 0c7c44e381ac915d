"""Labelled image sets in [0, 1] and the checks that every image passes before an attack."""

from __future__ import annotations

from robust_snn.data.augment import augment
from robust_snn.data.checks import check_images
from robust_snn.data.image_set import ImageSet
from robust_snn.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "ImageSet", "augment", "check_images", "load_dataset"]
