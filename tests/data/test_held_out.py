"""Parts that are held out: every class has its share, and the rest keeps its order."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

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
