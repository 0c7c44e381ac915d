"""A verdict made up for tests of what is done with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.scoring.verdict import AttackResult, Clean, Robust, Verdict


def a_verdict(
    suite: str = "quick",
    attacks: Sequence[str] = ("apgd", "square"),
    status: str = "pass",
    **changes: Any,
) -> Verdict:
    """A verdict of 100 images with the given attacks and one diagnostic."""
    rows = tuple(
        AttackResult(
            name=name,
            implementation=f"robust_snn 0.1.0: {name}(steps=10)",
            gradient="bptt(surrogate=triangle(gamma=1),detach_reset=false)",
            eot=8,
            accuracy=0.5 - 0.1 * number,
            ci=(0.4 - 0.1 * number, 0.6 - 0.1 * number),
            claimed=0.55,
            forwards=12_000,
            backwards=6_000,
            seconds=12.5,
        )
        for number, name in enumerate(attacks)
    )
    values: dict[str, Any] = {
        "model": {
            "name": "snn_vgg5_stog",
            "kwargs": {"T": 4, "num_classes": 10},
            "weights_sha256": "ab" * 32,
            "parameters": 1234,
        },
        "data": {"name": "images.tar", "split": "test", "n": 100, "sha256": "cd" * 32},
        "threat": {"norm": "Linf", "eps": 8 / 255},
        "suite": suite,
        "draws": {"select": 40, "report": 20},
        "stochastic": True,
        "clean": Clean(0.9, (0.83, 0.95), 0.91),
        "robust": Robust(0.35, (0.26, 0.45), 0.33, 0.61),
        "attacks": rows,
        "diagnostics": (Diagnostic("noise", 0.5, status, "5 answers look noisy"),),
        "environment": {
            "robust_snn": "0.1.0",
            "torch": "2.14",
            "python": "3.11",
            "device": "cpu",
            "backend": "numba",
            "threads": 1,
        },
        "seed": 0,
        "seconds": 30.0,
    }
    return Verdict(**{**values, **changes})
