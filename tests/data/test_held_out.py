"""Parts that are held out: every class has its share, and the rest keeps its order."""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robust_snn.data import load_dataset
from robust_snn.data.image_set import ImageSet, held_out, interleaved


def labels_of(*sizes: int) -> torch.Tensor:
    """Labels of classes of these sizes, which take turns."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return torch.from_numpy(labels[interleaved(labels)])


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ((120, 20, 20), 16, [12, 2, 2]),
        ((120, 20, 20), 32, [24, 4, 4]),
        ((10, 10, 10), 3, [1, 1, 1]),
        ((10, 10, 10), 4, [1, 1, 2]),  # as the last four of classes in turns
        ((50, 1), 5, [5, 0]),  # a class keeps one
        ((2, 2), 4, [2, 2]),
        ((3, 3), 0, [0, 0]),
        ((5,), 2, [2]),
    ],
)
def test_shares(sizes: tuple[int, ...], count: int, shares: list[int]) -> None:
    labels = labels_of(*sizes)
    held = held_out(labels, count)
    assert np.bincount(labels[held], minlength=len(sizes)).tolist() == shares


def test_balanced_classes_in_turns_lose_their_tail() -> None:
    labels = labels_of(*[8] * 10)
    assert np.flatnonzero(held_out(labels, 32)).tolist() == list(range(48, 80))


def test_any_sizes_add_up() -> None:
    rng = random.Random(0)
    for _ in range(300):
        sizes = [rng.choice((1, 2, 3, 40)) for _ in range(rng.randint(1, 8))]
        labels = labels_of(*sizes)[torch.randperm(sum(sizes))]
        count = rng.randint(0, len(labels))
        held = held_out(labels, count)
        taken = np.bincount(labels[held], minlength=len(sizes))
        exact = np.array(sizes) * count / len(labels)
        assert held.sum() == count
        if count <= len(labels) - len(sizes):
            assert (taken < np.array(sizes)).all()
            roomy = exact + 1 < np.array(sizes)
            assert (taken[roomy] >= np.floor(exact[roomy])).all()


def test_a_set_is_divided_in_order() -> None:
    labels = labels_of(6, 2, 2)
    images = torch.arange(10.0)[:, None, None, None]
    kept, others = ImageSet("a", "all", images, labels, ("x", "y", "z")).divide(5)
    assert torch.cat([kept.images, others.images]).flatten().sort().values.tolist() == list(
        range(10)
    )
    for part in (kept, others):
        assert (part.images.flatten().diff() > 0).all()
        assert set(part.labels.tolist()) == {0, 1, 2}


def stored(sizes: tuple[int, ...], form: str, folder: Path) -> Path:
    """A data set whose images number themselves, class after class, but in "npz, mixed"."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if form == "npz, mixed":
        labels = np.random.default_rng(0).permutation(labels)
    pixels = np.broadcast_to(np.arange(1, len(labels) + 1, dtype=np.uint8), (1, 4, 4, len(labels)))
    images = np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)) + 9
    if form.startswith("npz"):
        np.savez(folder / "set.npz", images=images, labels=labels)
        return folder / "set.npz"
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "set" / f"{label:02d}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)
    if form == "folder":
        return folder / "set"
    with tarfile.open(folder / "set.tar", "w") as tar:
        tar.add(folder / "set", ".")
    return folder / "set.tar"


@pytest.mark.parametrize("form", ["folder", "tar", "npz, sorted", "npz, mixed"])
@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ((30, 6, 4), 8, [6, 1, 1]),
        ((20, 20, 1), 4, [2, 2, 0]),  # a class of one image stays where it trains
        ((1, 1, 1, 1), 1, None),  # any one of them
        ((10, 2), 6, [5, 1]),
    ],
)
def test_every_source_is_divided_by_class(
    sizes: tuple[int, ...], count: int, shares: list[int] | None, form: str, tmp_path: Path
) -> None:
    data = load_dataset(stored(sizes, form, tmp_path))
    kept, held = data.divide(len(data) - count)
    both = torch.cat([kept.images, held.images])[:, 0, 0, 0].mul(255).round()
    assert sorted(both.tolist()) == [10 + number for number in range(sum(sizes))]
    found = np.bincount(held.labels, minlength=len(sizes)).tolist()
    assert found == shares if shares is not None else sum(found) == count


def test_a_part_without_some_classes_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = stored((30, 6, 4), "npz, sorted", tmp_path)
    assert set(load_dataset(path, n=8).labels.tolist()) == {0}
    assert "the first 8 images of 'set' are of 1 of its 3 classes" in caplog.text
    caplog.clear()
    load_dataset(path)
    load_dataset(stored((30, 6, 4), "folder", tmp_path), n=8)
    assert not caplog.text
