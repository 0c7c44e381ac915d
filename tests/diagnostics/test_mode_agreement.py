"""Gradient modes agree, differ, or are bitwise the same because one of them has no effect."""

from __future__ import annotations

from typing import Any

import torch

from robust_snn.diagnostics.mode_agreement import gradient_cosines, mode_agreement


def test_two_modes_have_one_cosine(digits: Any) -> None:
    batch = digits.images[:8], digits.labels[:8]
    modes = ("bptt", "bptr", "hart")
    names, cosines = gradient_cosines(digits.victim, *batch, modes)
    assert len(names) == 3 and torch.equal(cosines, cosines.T)
    assert torch.allclose(cosines.diagonal(), torch.ones(3).double())
    note = mode_agreement(digits.victim, *batch, modes=modes)
    assert note.value == cosines[0, 1:].max()
