"""Tiny ImageNet as its archive unpacks: classes in folders, and in a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from one_epoch import check_training
from robust_snn.data import load_dataset
from robust_snn.models import fitted_kwargs
from robust_snn.utils.errors import InputError

CLASSES = ("n01443537", "n01629819", "n02056570")


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(path)


def write(root: Path) -> None:
    folder, rows = root / "tiny-imagenet-200", []
    for label, name in enumerate(CLASSES):
        for number in range(2):
            picture(folder / "train" / name / "images" / f"{name}_{number}.JPEG", 40 * label)
    for number, label in enumerate((2, 0, 1, 2)):
        picture(folder / "val" / "images" / f"val_{number}.JPEG", 40 * label)
        rows.append(f"val_{number}.JPEG\t{CLASSES[label]}\t0\t0\t62\t62")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")


def test_both_splits_have_the_labels_of_their_files(tmp_path: Path) -> None:
    write(tmp_path)
    for split, count in (("train", 6), ("test", 4)):
        data = load_dataset("tinyimagenet", split=split, root=tmp_path)
        assert data.classes == CLASSES and len(data) == count
        assert data.images.shape == (count, 3, 64, 64)
        levels = (data.images.mean((1, 2, 3)) * 255).round().long()
        assert (levels - 40 * data.labels).abs().max() <= 1
    few, more = (load_dataset("tinyimagenet", split=s, root=tmp_path) for s in ("test", "train"))
    check_training(more, few, tmp_path / "run", recipe="spikformer")
    few = load_dataset("tinyimagenet", root=tmp_path, n=3, size=32)
    assert few.labels.tolist() == [0, 1, 2] and few.images.shape[-1] == 32
    assert fitted_kwargs("snn_vgg5", {}, few)["mean"] == [0.480, 0.448, 0.398]


def test_what_is_missing_or_broken_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a data root .* unpack"):
        load_dataset("tinyimagenet")
    with pytest.raises(InputError, match="no test files of 'tinyimagenet' .* unpack"):
        load_dataset("tinyimagenet", root=tmp_path)
    write(tmp_path)
    (tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("one column\n")
    with pytest.raises(InputError, match="parted by tabs"):
        load_dataset("tinyimagenet", root=tmp_path)
