"""Versions of images as what differs from them: bit by bit, small, and refused where damaged."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch

from robust_snn.attacks.norm_ball import NormBall
from robust_snn.data.exact_differences import MOST, decode, encode, pack, unpack

EPS = 8 / 255
RNG = np.random.RandomState(0)
CLEAN = (RNG.randint(0, 256, (3, 64, 64)) / 255).astype(np.float32)
SIGNS = RNG.choice([-1, 1], CLEAN.shape).astype(np.float32)
BALL = NormBall(torch.from_numpy(CLEAN)[None], EPS, "Linf")
OURS = torch.where(torch.from_numpy(SIGNS) > 0, BALL.high, BALL.low)[0].numpy()
SPECIAL = np.resize(np.array([0, -0.0, 1, 1e-45, 1e-38, np.nextafter(1, 0)], np.float32), (3, 5, 7))
# version, clean image, and the most bytes that it may take of those of a float32 image
ROWS = {
    "the same": (CLEAN, CLEAN, 0.002),
    "edges of libraries": (np.clip(CLEAN + np.float32(EPS) * SIGNS, 0, 1), CLEAN, 0.045),
    "edges of ours": (OURS, CLEAN, 0.045),
    "inside": ((CLEAN * (1 - EPS) + EPS * RNG.rand(*CLEAN.shape)).astype(np.float32), CLEAN, 0.8),
    "anything": (RNG.rand(*CLEAN.shape).astype(np.float32), CLEAN, MOST),
    "special numbers": (SPECIAL, SPECIAL[::-1].copy(), 1),
    "frames": (1 - np.round(CLEAN)[None], np.round(CLEAN)[None], 0.1),
    "a pixel": (np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32), 99),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_version_comes_back_bit_by_bit(name: str) -> None:
    version, clean, most = ROWS[name]
    content = encode(version, clean, EPS)
    found = decode(content, clean)
    assert found.shape == clean.shape and found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), version.view(np.uint32))
    assert len(content) < most * version.nbytes


def test_what_is_damaged_is_refused_or_an_image() -> None:
    """Never another error; larger than the image, or no end, nothing is unpacked."""
    content = encode(ROWS["inside"][0], CLEAN, EPS)
    rng = random.Random(0)
    for damage in [b"", content[:5], content[:-1], content + b"x", bytes(99)]:
        with pytest.raises(ValueError, match="no version of this image"):
            decode(damage, CLEAN)
    with pytest.raises(ValueError, match="no version of this image"):
        decode(content, CLEAN[:, :8])
    for _ in range(40):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        with suppress(ValueError):
            assert decode(bytes(flipped), CLEAN).shape == CLEAN.shape


def test_several_are_packed() -> None:
    for contents in ([], [b""], [b"one", b"", b"two"]):
        assert unpack(pack(contents)) == contents
    sound = pack([b"one", b"two"])
    for ends in ([3, 2], [3, 7], [-1, 6], [3.0, 6.0], [[3, 6]]):
        with pytest.raises(ValueError, match="differences"):
            unpack({**sound, "ends": np.array(ends)})
    with pytest.raises(ValueError, match="differences"):
        unpack({**sound, "differences": np.zeros(6)})
