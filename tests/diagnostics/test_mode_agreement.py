"""Gradient modes agree, differ, or are bitwise the same because one of them has no effect."""

from __future__ import annotations

from typing import Any

import torch

from picky import Picky, pictures, reaches_all, reaches_nothing
from robust_snn import Victim
from robust_snn.diagnostics.mode_agreement import gradient_cosines, mode_agreement


def test_two_modes_have_one_cosine(digits: Any) -> None:
    batch = digits.images[:8], digits.labels[:8]
    modes = ("bptt", "bptr", "hart")
    names, cosines = gradient_cosines(digits.victim, *batch, modes)
    assert len(names) == 3 and torch.equal(cosines, cosines.T)
    assert torch.allclose(cosines.diagonal(), cosines.new_ones(3))
    note = mode_agreement(digits.victim, *batch, modes=modes)
    assert note.value == cosines[0, 1:].max()


def test_a_mode_without_effect_is_no_agreement() -> None:
    net = Picky(reaches_all)
    victim, batch = Victim(net), pictures(net, 6)
    note = mode_agreement(victim, *batch)
    assert note.status == "fail" and "has no effect" in note.why and "cosine" not in note.why
    names, cosines = gradient_cosines(victim, *batch, ("bptt", "bptr"))
    assert len(names) == 2 and cosines.isnan().tolist() == [[False, True], [True, False]]


def test_modes_that_reach_nothing_are_the_networks_own() -> None:
    net = Picky(reaches_nothing)
    names, cosines = gradient_cosines(Victim(net), *pictures(net, 6), ("bptt", "bptr", "own"))
    assert names == ("own",) and cosines.shape == (1, 1)
