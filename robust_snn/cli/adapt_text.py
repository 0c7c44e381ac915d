"""`--adapt`: how a network is to be adapted, as text: `T=8,readout=mean,mean=0.5/0.5/0.5`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.user_function import is_reference, load_function
from robust_snn.utils.values import number


def parse_adapt(text: str | None) -> dict[str, Any]:
    """Arguments of `robust_snn.adapt` as JSON values; functions stay `file.py:function`.

    Args:
        text: `name=value` pairs with commas between; a value per channel has slashes between.

    Raises:
        InputError: If a name is not known or comes twice, or a value does not fit it.
    """
    found: dict[str, Any] = {}
    for part in text.split(",") if text is not None else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise InputError(f"--adapt must have the form name=value,name=value, got '{part}'")
        if name not in _READERS:
            raise unknown("name in --adapt", name, _READERS)
        if name in found:
            raise InputError(f"--adapt gives '{name}' twice")
        found[name] = _READERS[name](value, f"{name} in --adapt")
    return found


def adapt_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `robust_snn.adapt`, with the functions that references name."""
    return {
        name: load_function(value) if isinstance(value, str) and is_reference(value) else value
        for name, value in settings.items()
    }


def _whole(text: str, what: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{what} must be a whole number, got '{text}'")
    return int(text)


def _truth(text: str, what: str) -> bool:
    if text not in ("true", "false"):
        raise InputError(f"{what} must be true or false, got '{text}'")
    return text == "true"


def _word(text: str, what: str) -> str:
    return text


def _function(text: str, what: str) -> str:
    if not is_reference(text):
        raise InputError(f"{what} must be a function, as file.py:function, got '{text}'")
    return text


def _numbers(text: str, what: str) -> list[float]:
    return [number(part, what) for part in text.split("/")]


def _sides(text: str, what: str) -> list[int]:
    """`32` or `24/32`, height and width."""
    sides = [_whole(part, what) for part in text.split("/")]
    return sides * 2 if len(sides) == 1 else sides


_READERS: dict[str, Callable[[str, str], Any]] = {
    "T": _whole,
    "encoder": _word,
    "readout": _word,
    "output": _function,
    "random": _truth,
    "mean": _numbers,
    "std": _numbers,
    "resize": _sides,
    "channels": _whole,
}
