"""A diagnosis as `diagnose` makes it, for pages and commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from robust_snn.diagnostics import Diagnosis, Diagnostic
from robust_snn.diagnostics.diagnosis import ModeResult
from robust_snn.diagnostics.margin_curve import MarginCurve


def a_diagnosis(status: str = "pass", **changes: Any) -> Diagnosis:
    """Two checks, the first of them with a status, and three gradient modes."""
    made = Diagnosis(
        gradient="bptt",
        images=7,
        stochastic=True,
        threat={"norm": "Linf", "eps": 8 / 255},
        seed=0,
        notes=(Diagnostic("first", 0.5, status, "said so"), Diagnostic("second", 1, "pass", "ok")),
        results=(
            ModeResult("bptr", 0.125, ""),
            ModeResult("bptt", 0.75, "vanishes on 40% of images"),
            ModeResult("bptt(surrogate=atan(alpha=4))", 0.8, ""),
        ),
        compared=("bptt", "bptr"),
        cosines=((1.0, None), (None, 1.0)),
        curves={"eps": ((0.05, 0.9), (0.5, 0.0)), "draws": ((1, 0.2), (20, 0.8))},
        margin=MarginCurve((-1, 0, 1), (-3, -2, 1), (-3, -2, -1), (-2, -2, -2)),
        missing=(),
    )
    return replace(made, **changes)
