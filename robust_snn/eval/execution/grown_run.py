"""A run may grow: more of the same images, behind those that it has, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from robust_snn.data.image_digests import DataDigests
from robust_snn.utils.checked_files import DamagedFile, read_record
from robust_snn.utils.errors import InputError
from robust_snn.utils.places import place

CONFIG = "config.json"
IMAGES = "images"  # in a configuration: digest and label of every image, in order
GROWS = ("n", "sha256")  # what else of the data changes with their number


def known_images(run: str | Path, labels: Tensor) -> DataDigests | None:
    """What the run in a folder says of its images, if they have these labels `[N]`."""
    try:
        config = read_record(place(run) / CONFIG)
        known = config[IMAGES]
        if known["labels"] == labels.tolist():
            return DataDigests(str(config["data"]["sha256"]), tuple(map(str, known["digests"])))
    except (OSError, InputError, DamagedFile, KeyError, TypeError):  # the folder says it by name
        pass
    return None


def without_images(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what changes as its run grows."""
    kept = {key: value for key, value in config.items() if key != IMAGES}
    data = config.get("data", {})
    return {**kept, "data": {key: value for key, value in data.items() if key not in GROWS}}


def outgrown(found: dict[str, Any], config: dict[str, Any]) -> int | None:
    """The shard whose results a run loses as it grows: its last one, unless that was full.

    Args:
        found: The configuration in the folder.
        config: The same with more images.
    """
    before, after = (len(each.get(IMAGES, {}).get("labels", ())) for each in (found, config))
    size = config.get("batch_size", 1)
    return before // size if before < after and before % size else None


def grown(found: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What a folder holds, as it is with the images of a run that goes on from there.

    Args:
        found: The configuration in the folder.
        config: That of the run, which has the same images or more of them behind those.

    Returns:
        `found` with the images of `config`; as it was where they are others, or fewer.
    """
    before, after = found.get(IMAGES), config.get(IMAGES)
    if not isinstance(before, dict) or not isinstance(after, dict):
        return found
    if any(after[key][: len(before[key])] != before[key] for key in after):
        return found
    data = {**found["data"], **{key: config["data"][key] for key in GROWS}}
    return {**found, "data": data, IMAGES: after}
