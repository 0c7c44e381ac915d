"""What a network keeps outside of its modules, found by name: it cannot be put back, so it is told.

Variables of classes and of files, default arguments and generators are shared by all who use the
code. A network that keeps something there is refused, and this says where.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, GeneratorType, ModuleType
from typing import Any

from torch import nn

from robust_snn.foreign.hidden_state import copied, same
from robust_snn.neurons.fixed_network import STATELESS

CALLS = 3  # functions in functions that are followed
HIDDEN = frozenset(("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"))
INSTALLED = ("site-packages", "dist-packages")  # folders of code that is not the user's


def outside(net: nn.Module) -> dict[str, Any]:
    """Copies of what the code of a network's modules may keep, by what people call it."""
    found: dict[str, Any] = {}
    for path, module in net.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, GeneratorType) and value.gi_frame is not None:
                place = f"{path}.{name}".lstrip(".")
                found[f"the generator {place}"] = copied(dict(value.gi_frame.f_locals))
    for cls in {cls for module in net.modules() for cls in type(module).__mro__}:
        if cls.__module__.partition(".")[0] in (*STATELESS, "builtins", "typing"):
            continue
        for name, value in vars(cls).items():
            if isinstance(value, FunctionType):
                found |= _of_function(value, CALLS)
            elif not name.startswith("__") and _is_data(value):
                found[f"the class variable {cls.__name__}.{name}"] = copied(value)
    return found


def places_outside(net: nn.Module) -> list[tuple[Mapping[str, Any], str]]:
    """Where the user's code of a network's modules has names that it reads: tables, and the names.

    These are variables of classes and of files, of files that it imports and of spike functions.
    """
    found: dict[tuple[int, str], tuple[Mapping[str, Any], str]] = {}
    todo: list[Any] = [cls for module in net.modules() for cls in type(module).__mro__]
    seen = set[Any]()

    def note(where: Mapping[str, Any], name: str, owner: Any) -> None:
        found.setdefault((id(owner), name), (where, name))
        value = where[name]
        inner = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(inner, FunctionType | type):
            todo.append(inner)

    while todo:
        item = todo.pop()
        if item in seen or not _is_of_user(item.__module__ or ""):
            continue
        seen.add(item)
        if isinstance(item, type):
            for name in vars(item).keys() - HIDDEN:
                note(vars(item), name, item)
            continue
        names = {*_names(item.__code__)}
        for name in names & item.__globals__.keys():
            note(item.__globals__, name, item.__globals__)
            value = item.__globals__[name]
            if isinstance(value, ModuleType) and _is_of_user(value.__name__):
                for inner in names & vars(value).keys():
                    note(vars(value), inner, value)
    return list(found.values())


def _is_of_user(name: str) -> bool:
    """Whether a module of Python is neither installed nor a part of Python or of this package."""
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    known = top in STATELESS or top in sys.stdlib_module_names - {"__main__"}
    return not (known or any(folder in file for folder in INSTALLED))


def moved_outside(before: Mapping[str, Any], net: nn.Module) -> str:
    """What differs from a copy, in words; nothing where nothing does."""
    after = outside(net)
    moved = [n for n in before if n not in after or not same(before[n], after[n])]
    return f"it keeps {', '.join(moved)} between calls, which its forward has to reset" * bool(
        moved
    )


def _of_function(function: FunctionType, depth: int) -> dict[str, Any]:
    """What a function, and those that it calls, keep in default arguments and global variables."""
    found: dict[str, Any] = {}
    defaults = function.__defaults__ or ()
    for number, value in enumerate(defaults, function.__code__.co_argcount - len(defaults)):
        if _is_data(value):
            name = function.__code__.co_varnames[number]
            found[f"the default of {name} in {function.__qualname__}"] = copied(value)
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType) and depth and _is_users(value):
            found |= _of_function(value, depth - 1)
        elif _is_data(value):
            found[f"the global variable {name}"] = copied(value)
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_users(function: FunctionType) -> bool:
    return not any(folder in function.__code__.co_filename for folder in INSTALLED)


def _is_data(value: Any) -> bool:
    return (
        value is not None and not isinstance(value, ModuleType | nn.Module) and not callable(value)
    )
