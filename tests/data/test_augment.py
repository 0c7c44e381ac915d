"""Augmentation: only shifts and mirrors, and the generator decides which."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from robust_snn.data import augment, cut_out


def draw(images: torch.Tensor, seed: int = 0, **kwargs: object) -> torch.Tensor:
    return augment(images, torch.Generator().manual_seed(seed), **kwargs)


@pytest.mark.parametrize(("pad", "flip"), [(0, False), (0, True), (1, True), (4, False)])
def test_every_result_is_a_shifted_or_mirrored_input(pad: int, flip: bool) -> None:
    images = torch.rand(255, 3, 5, 7) + 0.1
    out = draw(images, pad=pad, flip=flip)
    assert out.shape == images.shape and out.is_contiguous()
    padded = F.pad(images, (pad,) * 4)
    crops = [
        padded[:, :, top : top + 5, left : left + 7]
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
    ]
    crops += [crop.flip(-1) for crop in crops] if flip else []
    matches = torch.stack([(crop == out).flatten(1).all(1) for crop in crops])  # [crops, B]
    assert matches.any(0).all()
    if pad <= 1:  # few enough crops for all of them to turn up
        assert matches.any(1).all()


def test_generator_alone_decides() -> None:
    images = torch.rand(16, 1, 8, 8)
    first = draw(images)
    torch.manual_seed(1)
    assert torch.equal(first, draw(images))
    assert not torch.equal(first, draw(images, seed=1))


def test_cutout_blackens_one_square_of_16() -> None:
    images = torch.ones(200, 3, 32, 32)
    out = cut_out(images, torch.Generator().manual_seed(0))
    black = out[:, 0] == 0
    assert torch.equal(out[:, 0], out[:, 2]) and images.min() == 1
    rows, columns = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(black.sum((1, 2)), rows * columns)  # a rectangle
    assert rows.max() == columns.max() == 16 and rows.min() >= 8
    assert not torch.equal(black[0], black[1])


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_a_hole_has_the_side_that_was_asked_for(side: int) -> None:
    out = cut_out(torch.ones(100, 1, 9, 9), torch.Generator().manual_seed(0), side=side)
    assert (out == 0).sum((1, 2, 3)).max() == side**2
