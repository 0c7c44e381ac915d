"""What a diagnostic says, and how its value becomes a status."""

from __future__ import annotations

import math
from dataclasses import dataclass

STATUSES = ("pass", "warn", "fail")  # from good to bad


@dataclass(frozen=True)
class Diagnostic:
    """A reason to believe a verdict or not; a value that is not finite is 0, and a warning.

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

    @property
    def rank(self) -> int:
        """How bad it is: 0 of a pass, 1 of a warning, 2 of a failure."""
        return STATUSES.index(self.status)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            status = "fail" if self.status == "fail" else "warn"
            for name, value in (("value", 0.0), ("status", status)):
                object.__setattr__(self, name, value)


def grade(bad: float, warn: float, fail: float) -> str:
    """The status of a measure that should be small."""
    return "fail" if bad > fail else "warn" if bad > warn else "pass"


def two_errors(images: int) -> float:
    """Two standard errors of an accuracy on so many images, at most: `1 / sqrt(images)`."""
    return images**-0.5
