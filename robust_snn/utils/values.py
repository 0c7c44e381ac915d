"""Values as people type them: fractions, and `name=value` pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import parse_yaml


def number(value: Any, what: str) -> float:
    """Reads a number, such as `0.03`, `"1e-3"` or `"8/255"`.

    Args:
        value: A number or its text.
        what: What it is, for error messages.

    Raises:
        InputError: If it is not a finite number.
    """
    result = None if isinstance(value, bool) else _read(str(value))
    if result is None or not math.isfinite(result):
        raise InputError(f"{what} must be a number such as 0.03 or 8/255, got '{value}'")
    return result


def assignments(words: Iterable[str], what: str) -> dict[str, Any]:
    """Reads `name=value` pairs; each word may hold several, separated by spaces.

    Args:
        words: Such as `["T=4 width=.25", "decay=0.9"]`.
        what: What they are, for error messages.

    Raises:
        InputError: If a word is not of that form or a name comes twice.
    """
    found: dict[str, Any] = {}
    for word in " ".join(words).split():
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier() or not text:
            raise InputError(f"{what} must have the form name=value, got '{word}'")
        if name in found:
            raise InputError(f"{what} '{name}' is given twice")
        found[name] = _value(text, what)
    return found


def _value(text: str, what: str) -> Any:
    value = parse_yaml(text, f"{what} {text:.80}")
    # YAML takes 1e-3 for a word, and a date or a set for itself
    if isinstance(value, str):
        plain = _read(value) if "/" not in value else None
        return value if plain is None else plain
    if not isinstance(value, bool | int | float | list | None):
        raise InputError(f"{what}: cannot read '{text}'")
    return value


def _read(text: str) -> float | None:
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        return None
