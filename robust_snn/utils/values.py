"""Values as people type them: fractions, and `name=value` pairs."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import parse_yaml

MOST_STEPS = 10**6  # of a network in time: the smallest one keeps gigabytes for them


def number(value: Any, what: str) -> float:
    """Reads a number, such as `0.03`, `"1e-3"`, `"8/255"`, or a scalar of NumPy or PyTorch.

    Args:
        value: A number or its text.
        what: What it is, for error messages.

    Raises:
        InputError: If it is not a finite number.
    """
    result = _read(value) if isinstance(value, str) else _plain(value)
    if result is None or not math.isfinite(result):
        raise InputError(f"{what} must be a number such as 0.03 or 8/255, got {_shown(value)}")
    return result


def whole(value: Any, what: str, least: int | None = None) -> int:
    """Reads a whole number, also one of NumPy or PyTorch.

    Args:
        value: The number.
        what: What it is, for error messages.
        least: The smallest that is allowed, if any.

    Raises:
        InputError: If it is none, smaller, or larger than what follows from it can hold: 2**31 - 1
            for counts, which have a `least`, and 64 bits for others.
    """
    try:
        result = None if _is_bool(value) else operator.index(value)
    except TypeError:
        result = None
    if result is None:
        bound = "" if least is None else f" of at least {least}"
        raise InputError(f"{what} must be a whole number{bound}, got {_shown(value)}")
    if least is not None and result < least:
        raise InputError(f"{what} must be at least {least}, got {_shown(result)}")
    most = 2**63 - 1 if least is None else 2**31 - 1
    if abs(result) > most:
        raise InputError(f"{what} must be at most {most} in size, got {_shown(result)}")
    return result


def is_plain(value: Any) -> bool:
    """Whether a value is what JSON holds, with numbers that are finite and of at most 64 bits."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, str) or _is_finite(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def time_steps(value: Any) -> int:
    """Reads how many steps a network runs, `T`.

    Raises:
        InputError: If it is no whole number, below 1, or so large that no memory holds the steps.
    """
    steps = whole(value, "T", 1)
    if steps > MOST_STEPS:
        raise InputError(f"T must be at most {MOST_STEPS} steps, got {steps}")
    return steps


def file_name(value: Any, what: str) -> str:
    """Reads a name that becomes that of a file, and so stays in its folder.

    Raises:
        InputError: If it is empty, hidden, too long or the way to another folder.
    """
    name = value if isinstance(value, str) else ""
    if not name.isprintable() or not 0 < len(name) < 200 or {*name} & {*"/\\:"} or name[0] == ".":
        raise InputError(f"{what} names a file, as in my-model_1, got {_shown(value)}")
    return name


def assignments(words: Iterable[str], what: str) -> dict[str, Any]:
    """Reads `name=value` pairs; each word may hold several, separated by spaces or commas.

    Args:
        words: Such as `["T=4 width=.25", "decay=0.9,gain=1"]`.
        what: What they are, for error messages.

    Raises:
        InputError: If a word is not of that form or a name comes twice.
    """
    found: dict[str, Any] = {}
    for word in _pairs(words):
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier() or not text:
            raise InputError(f"{what} must have the form name=value, got '{word}'")
        if name in found:
            raise InputError(f"{what} '{name}' is given twice")
        found[name] = _value(text, what)
    return found


def _pairs(words: Iterable[str]) -> Iterator[str]:
    """The pairs in some words; the commas of a text form such as `assg(a=1,relax=2)` end none."""
    for word in " ".join(words).split():
        yield from [word] if "(" in word else re.split(r",(?=[A-Za-z_]\w*=)", word)


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


def _plain(value: Any) -> float | None:
    """A number, or an array of a single one, as a float."""
    if _is_bool(value) or int(getattr(value, "ndim", False)) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # such as a complex tensor
        return None


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))


def _shown(value: Any) -> str:
    """A value in a message: one line, and not long."""
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    return f"{' '.join(text.split()):.60}"
