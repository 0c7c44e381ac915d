"""What a diagnostic says."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """A reason to believe a verdict or not, in the fields of `verdict.json`.

    Attributes:
        name: What was looked at.
        value: What was measured.
        status: `"pass"`, `"warn"` or `"fail"`.
        why: One sentence.
    """

    name: str
    value: float
    status: str
    why: str


def grade(bad: float, warn: float, fail: float) -> str:
    """The status of a measure that should be small."""
    return "fail" if bad > fail else "warn" if bad > warn else "pass"


def slack(images: int) -> float:
    """By how much two accuracies of as many images may differ by chance: two standard errors."""
    return images**-0.5
