"""Diagnostics pass on a network with a gradient and fail where it is hidden."""

from __future__ import annotations

from typing import Any

from robust_snn.diagnostics import Diagnostic, cheap, full

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
