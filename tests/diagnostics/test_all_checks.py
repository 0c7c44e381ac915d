"""Diagnostics pass on a network with a gradient and fail where it is hidden."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from picky import Picky, pictures, reaches_nothing, refuses_rates
from robust_snn import Victim
from robust_snn.diagnostics import Diagnostic, cheap, full, measure_or_warn

EPS = 0.1


def by_name(result: list[Diagnostic]) -> dict[str, str]:
    return {each.name: each.status for each in result}


def test_a_trained_network_passes(digits: Any) -> None:
    victim, images, labels = digits
    result = full(victim, images[:32], labels[:32], eps=EPS)
    assert {f.status for f in result} <= {"pass", "warn"}, [f for f in result if f.status == "fail"]
    statuses = by_name(result)
    for name in ("zero gradients", "finite differences", "collapse", "accuracy over eps"):
        assert statuses[name] == "pass", next(f for f in result if f.name == name)
    assert all(f.why and isinstance(f.value, float) for f in result)
    assert victim.cost.backwards


def test_a_dead_surrogate_fails(digits: Any) -> None:
    victim, images, labels = digits
    masked = victim.replace(gradient="bptt(surrogate=triangle(gamma=0.005))")
    statuses = by_name(full(masked, images[:32], labels[:32], eps=EPS))
    for name in (
        "zero gradients",
        "silent neurons",
        "vanishing degree",
        "finite differences",
        "agreement of modes",
    ):
        assert statuses[name] == "fail", name
    assert statuses["collapse"] != "pass"


def test_the_cheap_ones_take_few_gradients(digits: Any) -> None:
    victim, images, labels = digits
    variant = victim.replace()
    result = cheap(variant, images[:16], labels[:16])
    assert len(result) == 7 and variant.cost.backwards <= 16 * 10


@pytest.mark.parametrize("width", [1.0, 0.0])
def test_other_peoples_networks_are_diagnosed_to_the_end(width: float) -> None:
    net = Picky(reaches_nothing, width)
    statuses = by_name(full(Victim(net), *pictures(net, 8), eps=EPS))
    assert statuses["reached neurons"] == "fail" and "agreement of modes" not in statuses
    assert statuses["zero gradients"] == ("pass" if width else "fail")


def test_what_cannot_be_measured_warns_with_the_reason() -> None:
    class Detached(Picky):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    for kind in (Detached, Picky):
        net = kind(refuses_rates)
        notes = full(Victim(net), *pictures(net, 4), eps=EPS)
        assert len({note.name for note in notes}) == len(notes)
    net = Detached(refuses_rates)
    notes = cheap(Victim(net), *pictures(net, 4))
    missing = [note for note in notes if note.why.startswith("not measured: ")]
    assert {note.status for note in missing} == {"warn"} and len(missing) >= 3
    (note,) = measure_or_warn("a", lambda: [][0])
    assert (note.name, note.status) == ("a", "warn") and "IndexError" in note.why


@pytest.mark.parametrize(("status", "becomes"), [("pass", "warn"), ("fail", "fail")])
def test_a_value_that_is_no_number_warns(status: str, becomes: str) -> None:
    assert Diagnostic("x", float("nan"), status, "why") == Diagnostic("x", 0.0, becomes, "why")
