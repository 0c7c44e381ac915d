"""Rules that every attack obeys, on numbers."""

from __future__ import annotations

from robust_snn.diagnostics import compare_strength, must_not_rise


def test_accuracy_must_not_rise_and_knowledge_must_help() -> None:
    assert must_not_rise("eps", {0.1: 0.5, 0.2: 0.3}, 100).status == "pass"
    assert must_not_rise("eps", {0.1: 0.3, 0.2: 0.5}, 100).status == "fail"
    assert must_not_rise("eps", {0.2: 0.47, 0.1: 0.4}, 100).status == "warn"
    assert compare_strength("a", 0.3, 0.5, 100, "gradients", "Square").status == "pass"
    assert compare_strength("a", 0.5, 0.3, 100, "gradients", "Square").status == "fail"
