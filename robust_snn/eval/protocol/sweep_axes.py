"""Axes of a sweep: what may vary around the point of a suite, and how its values are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import number

Axes = dict[str, tuple[Any, ...]]


def parse_axes(given: Any, where: str) -> Axes:
    """Reads axes, such as `{"eps": [0, "2/255"], "gradient": ["bptt", "bptr"]}`.

    Args:
        given: Values by axis.
        where: What messages call it.

    Raises:
        InputError: If an axis is not known, empty, or has a wrong value or one twice.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be a mapping from axes to values, got {given!r:.60}")
    return {str(axis): _values(str(axis), values, where) for axis, values in given.items()}


def read_axes(words: Iterable[str], where: str) -> Axes:
    """Reads axes as a command line gives them, such as `eps=0,2/255`.

    Raises:
        InputError: As `parse_axes` does, or if a word has another form or an axis comes twice.
    """
    given: dict[str, list[str]] = {}
    for word in words:
        axis, equals, text = word.partition("=")
        if not equals or not text:
            raise InputError(f"{where} must have the form axis=value,value, got '{word}'")
        if axis in given:
            raise InputError(f"{where} '{axis}' is given twice")
        given[axis] = _split(text)
    return parse_axes(given, where)


def _values(axis: str, values: Any, where: str) -> tuple[Any, ...]:
    if axis not in AXES:
        raise unknown(f"axis of {where}", axis, AXES)
    if not isinstance(values, list | tuple) or not values:
        raise InputError(f"{where}: '{axis}' needs a list of values, got {values!r:.60}")
    read = tuple(AXES[axis](value, f"{axis} of {where}") for value in values)
    if len(set(read)) < len(read):
        raise InputError(f"{where}: '{axis}' has a value twice")
    return read


def _split(text: str) -> list[str]:
    """Parts between commas, save those inside brackets: modes have arguments."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def radius(value: Any, what: str) -> float:
    """Reads a radius such as `"8/255"`; `what` is its name in the `InputError` of a wrong one."""
    eps = number(value, what)
    if eps < 0:
        raise InputError(f"{what} must not be negative, got {value}")
    return eps


def _count(value: Any, what: str) -> int:
    count = number(value, what)
    if count < 1 or not count.is_integer():
        raise InputError(f"{what} must be a whole number of at least 1, got {value}")
    return int(count)


def _mode(value: Any, what: str) -> str:
    return str(parse_mode(value if isinstance(value, str) else str(value)))


AXES: dict[str, Callable[[Any, str], Any]] = {
    "eps": radius,
    "steps": _count,
    "eot": _count,
    "gradient": _mode,
    "T": _count,
}
