"""Shares, differences and their intervals as people read them: rounded, and never to a nicer one.

What is told as none or all is none or all, and an interval is told no narrower than it is.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from math import ceil, floor

SLACK = 1e-6  # what rounding may add to a number of tenths
SMALL = 0.0005  # what a tenth of a percent does not show
Interval = tuple[float, float]


def percent(share: float) -> str:
    """A share as text, such as `35.3%`; only what is none or all is told as that."""
    if 0 < share < SMALL:
        return "<0.1%"
    return ">99.9%" if 1 - SMALL <= share < 1 - SLACK else f"{share:.1%}"


def span(interval: Interval) -> str:
    """An interval of shares as text, such as `30.1-40.8%`, rounded to a wider one."""
    low, high = tenths(interval)
    return f"{low}-{high}%"


def tenths(interval: Interval) -> tuple[str, str]:
    """The limits in percent, the lower rounded down and the upper up."""
    low, high = _outward(interval)
    return f"{low:.1f}", f"{high:.1f}"


def points(change: float) -> str:
    """A difference of shares in points of percent, such as `+2.4`; only none is told as `+0.0`."""
    return f"{100 * change:{'+.1g' if 0 < abs(change) < SMALL else '+.1f'}}"


def points_span(interval: Interval) -> str:
    """An interval of differences, such as `-0.1 to +4.8`, rounded to a wider one."""
    low, high = _outward(interval)
    return f"{low:+.1f} to {high:+.1f}"


def wider(interval: Interval, digits: int = 3) -> tuple[str, str]:
    """The limits of any numbers to so many digits, the lower rounded down and the upper up."""
    rounded = (
        Context(prec=digits, rounding=how).create_decimal(limit)
        for limit, how in zip(interval, (ROUND_FLOOR, ROUND_CEILING), strict=True)
    )
    low, high = (f"{float(limit):.{digits}g}" for limit in rounded)
    return low, high


def _outward(interval: Interval) -> Interval:
    """Limits in percent to tenths, further apart than they are; without a zero below zero."""
    low, high = (1000 * limit for limit in interval)
    return floor(low + SLACK) / 10 + 0.0, ceil(high - SLACK) / 10 + 0.0
