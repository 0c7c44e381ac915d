"""A gradient that no mode can replace is no secret, and only a true derivative is no fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from picky import Picky, is_own, pictures, reaches_all, reaches_nothing, refuses_rates
from robust_snn import Victim
from robust_snn.diagnostics import reached_neurons
from robust_snn.gradients import GradientMode, Reach


def only_own(mode: GradientMode) -> Reach:
    return Reach(("a",)) if is_own(mode) else Reach()


@pytest.mark.parametrize(
    ("reach", "width", "gradient", "status", "why"),
    [
        (reaches_all, 1.0, "bptt", "pass", "bptt reaches all 2"),
        (reaches_all, 1.0, "own", "pass", "can replace it in all 2"),
        (refuses_rates, 1.0, "bptt", "warn", "reaches b (it is no step)"),
        (refuses_rates, 1.0, "own", "warn", "reaches b (it is no step)"),
        (reaches_nothing, 1.0, "bptt", "fail", "gradient modes reach no neuron of this network"),
        (only_own, 1.0, "own", "fail", "gradient modes reach no neuron of this network"),
        (reaches_nothing, 0.0, "own", "fail", "may be masked"),
        (reaches_nothing, None, "bptt", "pass", "which is the derivative of its logits"),
    ],
)
def test_how_far_modes_reach(
    reach: Callable[[GradientMode], Reach],
    width: float | None,
    gradient: str,
    status: str,
    why: str,
) -> None:
    net = Picky(reach, width)
    note = reached_neurons(Victim(net, gradient=gradient), *pictures(net, 8))
    assert (note.name, note.status) == ("reached neurons", status) and why in note.why, note
    assert 0 <= note.value <= 1


def test_a_network_of_ours_is_reached(digits: Any) -> None:
    note = reached_neurons(digits.victim, digits.images[:4], digits.labels[:4])
    assert (note.value, note.status) == (1.0, "pass")
