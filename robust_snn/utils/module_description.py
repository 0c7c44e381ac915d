"""What a network is besides its tensors: the class and the attributes of every module, as JSON.

Two networks with the same description and the same tensors compute the same, unless their code
reads something from elsewhere. Code of installed packages is known by its name, code of a user by
what it does: its instructions, and the functions and constants outside of it that they name.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterator, Mapping, Set
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.utils.user_function import UserFunction

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
# bookkeeping of every module, and how timm names a network
IGNORED = {*vars(nn.Module()), "pretrained_cfg", "default_cfg"}
LONGEST = 400  # letters of an attribute that are written out; of others a digest is
DEEPEST, MOST = 30, 50_000  # levels of an attribute, and values of a network, that are looked at
DIGITS = 16  # of a digest
# packages whose objects change without a change of the network, or hold half of the process
OPAQUE = {"torch", "builtins", "io", "_io", "logging", "threading", "_thread", "weakref", "queue"}
PYTHON = ".".join(map(str, sys.version_info[:2]))
_PLACES = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = {str(Path(sysconfig.get_path(place)).resolve()) for place in _PLACES}
_INSTALLED.add(str(Path(__file__).resolve().parents[1]))


def describe_modules(net: nn.Module) -> dict[str, Any]:
    """Class and attributes of every module by its path, as JSON values.

    A module with `described_by`, a tuple of names, is described by those attributes alone; one with
    `described_without` by all but those.
    """
    found = _Describer().modules(net)
    described: dict[str, Any] = json.loads(json.dumps(found))
    return described


def unmoved(first: Any, second: Any) -> Any:
    """The part of two descriptions that is the same in both."""
    if isinstance(first, dict) and isinstance(second, dict):
        both = [key for key in first if key in second]
        kept = {key: unmoved(first[key], second[key]) for key in both}
        return {key: value for key, value in kept.items() if value is not _MOVED}
    return first if first == second else _MOVED


def libraries_of(net: nn.Module) -> dict[str, str]:
    """Versions of the packages that the classes of a network come from, where they have one."""
    names = {type(module).__module__.partition(".")[0] for module in net.modules()}
    modules = {name: sys.modules.get(name) for name in sorted(names - {"__main__", "torch"})}
    versions = {name: getattr(module, "__version__", None) for name, module in modules.items()}
    return {name: str(version) for name, version in versions.items() if version is not None}


_MOVED: Any = object()


class _Describer:
    """Describes values; it looks into each as deep as `DEEPEST` and at no more than `MOST`."""

    def __init__(self) -> None:
        self.left = MOST
        self.above: list[object] = []  # what is being described, so that circles end

    def modules(self, net: nn.Module) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._module(net, "", found)
        return found

    def _module(self, module: nn.Module, path: str, found: dict[str, Any]) -> None:
        named: tuple[str, ...] | None = getattr(module, "described_by", None)
        if type(module).__name__ == "OptimizedModule":  # of torch.compile, which changes nothing
            named = ("_orig_mod",)
        found[path] = self._attributes(module, named)
        for name, child in module._modules.items():
            inside = any(child is other for other in self.above)
            if child is not None and not inside and (named is None or name in named):
                self.above.append(child)
                self._module(child, f"{path}.{name}" if path else name, found)
                self.above.pop()

    def _attributes(self, module: nn.Module, named: tuple[str, ...] | None) -> dict[str, Any]:
        own = {name: value for name, value in vars(module).items() if name not in IGNORED}
        for cls in type(module).__mro__:
            if cls is nn.Module:
                break
            constants = {name: v for name, v in vars(cls).items() if isinstance(v, _PLAIN)}
            own = {**{n: v for n, v in constants.items() if not n.startswith("__")}, **own}
        if named is not None:
            own = {name: value for name, value in own.items() if name in named}
        without = getattr(module, "described_without", ())
        for name in ("described_by", "described_without", *without):
            own.pop(name, None)
        for name in getattr(module, "_non_persistent_buffers_set", ()):
            own[name] = module._buffers.get(name)
        hooks = [f for kind in HOOKS for f in getattr(module, kind, {}).values()]
        if hooks:
            own["hooks"] = hooks
        cls = type(module)
        if not _installed(cls):
            own["forward"] = cls.forward
        described = {str(name): _short(self.value(value)) for name, value in own.items()}
        return {"class": _name(cls), **described}

    def value(self, value: Any) -> Any:
        """A value as JSON: the same for values that are the same in two processes."""
        self.left -= 1
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if np.isfinite(value) else repr(value)
        if isinstance(value, np.generic):
            return self.value(value.item())
        if isinstance(value, Tensor | np.ndarray):
            return _array(value)
        if isinstance(value, torch.device):
            return value.type
        if isinstance(value, Enum | PurePath | complex | bytes | torch.dtype | torch.layout):
            return str(value)
        if self.left < 0 or len(self.above) > DEEPEST or any(value is v for v in self.above):
            return _name(type(value))
        self.above.append(value)
        try:
            return self._inside(value)
        except Exception:  # whatever an object of other people raises when it is looked at
            return _name(type(value))
        finally:
            self.above.pop()

    def _inside(self, value: Any) -> Any:
        """What a value holds that holds others."""
        if isinstance(value, UserFunction):
            return self.value(value.function)
        if isinstance(value, nn.Module):
            found: dict[str, Any] = {}
            self._module(value, "", found)
            return {**found, "tensors": [_array(t) for t in value.state_dict().values()]}
        if isinstance(value, Mapping):
            kept = {k: v for k, v in value.items() if isinstance(k, str) or not _holds_arrays(v)}
            return {str(key): self.value(item) for key, item in kept.items()}
        if isinstance(value, list | tuple | deque):
            return [self.value(item) for item in value]
        if isinstance(value, Set):
            return sorted(json.dumps(self.value(item)) for item in value)
        if isinstance(value, functools.partial):
            return [self.value(value.func), self.value(value.args), self.value(value.keywords)]
        if isinstance(value, types.MethodType):
            return [self.value(value.__func__), self.value(value.__self__)]
        if isinstance(value, types.BuiltinMethodType):  # as is the `apply` of an autograd function
            inside = value.__self__
            known = inside is None or isinstance(inside, types.ModuleType)
            return [value.__qualname__, None if known else self.value(inside)]
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        slots = [n for cls in type(value).__mro__ for n in getattr(cls, "__slots__", ())]
        held = {n: getattr(value, n) for n in slots if isinstance(n, str) and hasattr(value, n)}
        held |= getattr(value, "__dict__", {})
        if type(value).__module__.partition(".")[0] in OPAQUE:
            held = {}
        inner = {str(name): self.value(item) for name, item in held.items()}
        return {"class": _name(type(value)), **inner}

    def _function(self, function: types.FunctionType) -> Any:
        name = _name(function)
        cells = [self._cell(cell) for cell in function.__closure__ or ()]
        given = [self.value(v) for v in (function.__defaults__, function.__kwdefaults__) if v]
        if _installed(function):
            return [name, *cells, *given] if cells or given else name
        return [name, self._code(function.__code__, function.__globals__), *cells, *given]

    def _cell(self, cell: types.CellType) -> Any:
        try:
            return self.value(cell.cell_contents)
        except ValueError:  # of a variable that has no value yet
            return None

    def _code(self, code: types.CodeType, around: Mapping[str, Any]) -> str:
        """A digest of a function of a user, and of what it names outside of itself."""
        named = sorted({i.argval for i in _instructions(code) if i.opname == "LOAD_GLOBAL"})
        known = {n: around[n] for n in named if n in around}
        outside = [(n, self.value(v)) for n, v in known.items() if not isinstance(v, _UNREAD)]
        return f"python {PYTHON}: {_digest([_written(code), outside])}"

    def _class(self, cls: type) -> Any:
        """The name of a class, and a digest of what a user wrote in it."""
        if _installed(cls):
            return _name(cls)
        held = {name: getattr(v, "__func__", v) for name, v in vars(cls).items()}
        kinds = (types.FunctionType, *_PLAIN)
        inner = {n: self.value(v) for n, v in held.items() if isinstance(v, kinds)}
        inner = {
            n: v for n, v in inner.items() if n not in ("__module__", "__doc__", "__qualname__")
        }
        return [_name(cls), _digest(inner)]


_PLAIN = (bool, int, float, str, tuple)
_UNREAD = (types.ModuleType, nn.Module)  # what code names outside of itself and is not looked into


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def _written(code: types.CodeType) -> list[Any]:
    """Instructions, constants and names of code, without places in files."""
    constants = [
        _written(c)
        if isinstance(c, types.CodeType)
        else sorted(map(repr, c))
        if isinstance(c, frozenset)
        else repr(c)
        for c in code.co_consts
    ]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _installed(what: Any) -> bool:
    """Whether a function or a class comes with Python or an installed package."""
    if isinstance(what, types.FunctionType):
        file = what.__code__.co_filename
    else:
        file = getattr(sys.modules.get(what.__module__), "__file__", None) or ""
        if what.__module__ == "builtins":
            return True
    path = Path(file)
    parts = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(parts) or any(str(folder) in _INSTALLED for folder in path.parents)


def _name(what: Any) -> str:
    """The name of a class or function; of a user's without its module, which has many names."""
    name = str(getattr(what, "__qualname__", what))
    return f"{what.__module__}.{name}" if _installed(what) else name


def _holds_arrays(value: Any) -> bool:
    """Whether a value is an array or a list of some, as a cache by size holds them."""
    if isinstance(value, list | tuple):
        return any(map(_holds_arrays, value))
    return isinstance(value, Tensor | np.ndarray)


def _array(value: Tensor | np.ndarray) -> str:
    """Type, shape and a digest of the values of a tensor or an array."""
    text = f"{value.dtype} {tuple(value.shape)}"
    try:
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return f"{text} {hashlib.sha256(value.tobytes()).hexdigest()[:DIGITS]}"
    except (RuntimeError, TypeError, ValueError, NotImplementedError):  # on no device, or objects
        return text


def _digest(tree: Any) -> str:
    text = json.dumps(tree, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _short(tree: Any) -> Any:
    return tree if len(json.dumps(tree)) <= LONGEST else f"sha256 {_digest(tree)}"
