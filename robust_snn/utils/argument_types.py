"""Arguments of another type than a signature says: one `InputError`, before anything runs."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from numbers import Number
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from robust_snn.utils.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
_SPOKEN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "None",
    torch.Tensor: "a torch.Tensor",
}


def checked_types(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses arguments that its annotations exclude.

    Numbers are checked where they are used, also those of NumPy and PyTorch: here a scalar is a
    scalar. What is inside of mappings and sequences is not looked at.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = _hints(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            kind = signature.parameters[name].kind
            named = kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            if named and name in hints:
                _check(name, value, hints[name])
        return function(*args, **kwargs)

    return checked


def check_fields(instance: Any) -> None:
    """Raises `InputError` if a field of a dataclass has a value that its annotation excludes."""
    kind: Any = type(instance)
    hints = _hints(kind)
    for field in fields(instance):
        if field.name in hints:
            _check(field.name, getattr(instance, field.name), hints[field.name])


def _check(name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        expected = " or ".join(dict.fromkeys(_names(hint)))
        got = " ".join(f"{type(value).__name__} {value!r}".split())
        way = f"; {way_to_a_tensor(value)}" if "torch.Tensor" in expected else ""
        raise InputError(f"{name} must be {expected}, got {got:.60}{way}")


def way_to_a_tensor(value: Any) -> str:
    """What a caller does to get a tensor, or what else is taken in its place."""
    items = list(value[:1]) if isinstance(value, list | tuple) else []
    if hasattr(value, "dataset"):  # a loader may shuffle, and an attack reads an image often
        return "give its data set: loader.dataset"
    if items and isinstance(items[0], torch.Tensor):
        return "use torch.stack"
    if items and not isinstance(items[0], Number | list | tuple | np.ndarray):
        return "give a data set whose items are (image, label)"
    return "use torch.as_tensor"


@functools.cache
def _hints(of: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(of)
    except NameError:  # a type that only type checkers import
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:  # a class from Python 3.11 on
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is bool:
        return isinstance(value, bool) or _is_scalar(value)
    if hint in (int, float):
        return _is_scalar(value)
    kind = hint if origin is None else origin
    return not isinstance(kind, type) or isinstance(value, kind)


def _is_scalar(value: Any) -> bool:
    """A number, or an array or tensor of a single one."""
    return (
        isinstance(value, Number)
        or getattr(value, "size", None) in (1, ())
        or (callable(getattr(value, "numel", None)) and value.numel() == 1)
    )


def _names(hint: Any) -> Iterable[str]:
    """What messages call the types of an annotation."""
    if get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _names(part)
    else:
        yield _SPOKEN.get(hint) or str(getattr(hint, "__name__", hint))
