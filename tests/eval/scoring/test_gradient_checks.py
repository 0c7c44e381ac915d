"""What is lost of surrogates counts as far as it matters."""

from __future__ import annotations

import pytest

from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.scoring.gradient_checks import _surrogates_together

# shares of silent neurons in the worst layer under the modes of attacks, whether the margin moves
# along one of them, and the status of the first
ROWS: dict[str, tuple[tuple[float, ...], bool, str]] = {
    "a layer that no mode hears": ((1.0, 1.0), True, "warn"),
    "a layer that one mode hears": ((1.0, 0.4), True, "pass"),
    "most of a layer": ((0.995,), True, "pass"),
    "a layer, and nothing moves": ((1.0,), False, "fail"),
    "a layer that another hears, and nothing moves": ((1.0, 0.4), False, "warn"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_layer_that_no_attack_hears_is_named(kind: str) -> None:
    shares, moved, status = ROWS[kind]
    names = [f"bptt(surrogate=triangle(gamma={number + 1}))" for number in range(len(shares))]
    found = {
        name: [Diagnostic("silent neurons", share, "fail" if share > 0.99 else "pass", "so many")]
        for name, share in zip(names, shares, strict=True)
    }
    (note,) = _surrogates_together(found, names, moved)[names[0]]
    assert note.status == status
