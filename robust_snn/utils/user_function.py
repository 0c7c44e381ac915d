"""A user's own functions, named as `file.py:make_net` or `package.module:make_net`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.user_code import UserModule, importable, load_user_module, telling

_REFERENCE = re.compile(r"(.+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def is_reference(text: str) -> bool:
    """Whether a text has the form `file.py:function` or `package.module:function`."""
    return _REFERENCE.fullmatch(text) is not None


def absolute_reference(text: str, folder: Path) -> str:
    """The reference with its file looked for in a folder first, then where the process runs."""
    where, colon, name = text.rpartition(":")
    inside = folder / where
    return f"{inside.resolve()}{colon}{name}" if inside.is_file() else text


def short_reference(text: str) -> str:
    """The reference without the folders of its file."""
    where, colon, name = text.rpartition(":")
    return f"{Path(where).name}{colon}{name}"


@dataclass(frozen=True)
class UserFunction:
    """A function of a user.

    Attributes:
        reference: How the user names it.
        module: Where it is.
    """

    reference: str
    module: UserModule

    @property
    def function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(
            sys.modules[self.module.name], self.reference.rpartition(":")[2]
        )
        return found

    def check(self, *positional: Any, **named: Any) -> None:
        """Raises `InputError` unless the function takes these arguments."""
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # some functions in C have none
            return
        takes = signature.parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
            for name in named:
                if name not in takes:
                    raise unknown(f"argument of {short_reference(self.reference)}", name, takes)
        try:
            signature.bind(*positional, **named)
        except TypeError as error:
            raise InputError(f"{short_reference(self.reference)}: {error}") from None

    def arguments(self, **named: Any) -> dict[str, Any]:
        """What the function gets by these arguments and by its defaults, by name."""
        self.check(**named)
        known = inspect.signature(self.function).parameters.values()
        defaults = {p.name: p.default for p in known if p.default is not p.empty}
        return {**defaults, **named}

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Calls it where it finds its own modules; its exceptions are its own."""
        with importable(self.module.folders):
            return self.function(*positional, **named)

    def result(self, **named: Any) -> Any:
        """What it returns for arguments that it takes.

        Raises:
            InputError: If it does not take them, or raises.
        """
        self.check(**named)
        with telling(f"{short_reference(self.reference)} failed", self.module.folders):
            return self(**named)


def load_function(reference: str) -> UserFunction:
    """Loads the module of a function, which runs its code, and finds the function in it.

    Args:
        reference: `file.py:function` or `package.module:function`; modules are looked for in the
            current folder too.

    Raises:
        InputError: If the file, the module or the function is not there, or the code raises.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(f"expected file.py:function or package.module:function, got '{reference}'")
    where, name = match.groups()
    module = load_user_module(where)
    inside = vars(sys.modules[module.name])
    if not callable(inside.get(name)):
        own = [n for n, v in inside.items() if getattr(v, "__module__", None) == module.name]
        raise unknown(f"function of {where}", name, own)
    return UserFunction(reference, module)
