"""Text form of small frozen dataclasses: `name(arg=value,...)`, nested, strict both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from robust_snn.utils.errors import InputError, unknown

_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|[-+]?[\d.]+(?:[eE][-+]?\d+)?|[(),=])")

T = TypeVar("T")


class Textual:
    """A dataclass with a text form; subclasses set `name` and register in a table.

    Attributes:
        name: The name in the text form.
        positional: Whether the only argument stands without its name: `activation(relu)`.
    """

    name: str
    positional = False

    def __str__(self) -> str:
        given = _given(self)
        return self._spelled({name: _print_value(value) for name, value in given.items()})

    @property
    def brief(self) -> str:
        """The text form without the arguments that have their default."""
        default = _given(type(self)())
        return self._spelled(
            {
                name: value.brief if isinstance(value, Textual) else _print_value(value)
                for name, value in _given(self).items()
                if value != default.get(name)
            }
        )

    def _spelled(self, values: dict[str, str]) -> str:
        if self.positional and values:
            return f"{self.name}({','.join(values.values())})"
        return call_text(self.name, values)


def _given(value: Textual) -> dict[str, Any]:
    """The arguments; one with `repr=False` only where it is not the default."""
    values = {f: getattr(value, f.name) for f in _arguments(type(value))}
    return {f.name: v for f, v in values.items() if f.repr or v != f.default}


def call_text(name: str, values: Mapping[str, Any]) -> str:
    """The form `name(arg=value,...)`, or the name alone where there are no values."""
    arguments = ",".join(f"{key}={_print_value(value)}" for key, value in values.items())
    return f"{name}({arguments})" if arguments else name


def parse(text: str, kind: str, table: dict[str, type[T]], nested: dict[str, type]) -> T:
    """Builds the dataclass that `text` names.

    Args:
        text: Such as `"bptt(surrogate=triangle(gamma=0.5))"`.
        kind: What the text names, for error messages.
        table: Classes by name.
        nested: Classes that may stand as argument values, by name.

    Raises:
        InputError: If the text is malformed, or a name, argument or value is not known.
    """
    reader = _Reader(text)
    name = reader.word()
    if name not in table:
        raise unknown(kind, name, table)
    value: T = reader.call(name, table[name], nested)
    reader.end()
    return value


def _arguments(cls: type) -> list[Field[Any]]:
    return [f for f in fields(cls) if f.init]


class _Reader:
    """Recursive-descent reader over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        self.position = 0
        if "".join(self.tokens) != re.sub(r"\s", "", text):
            raise self.error()

    def error(self) -> InputError:
        return InputError(f"cannot read '{self.text}': expected the form name(argument=value,...)")

    def peek(self, ahead: int = 0) -> str:
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else ""

    def word(self) -> str:
        token = self.peek()
        if not token or token in "(),=":
            raise self.error()
        self.position += 1
        return token

    def accept(self, symbol: str) -> bool:
        found = self.peek() == symbol
        self.position += found
        return found

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            raise self.error()

    def end(self) -> None:
        if self.peek():
            raise self.error()

    def call(self, name: str, cls: type[T], nested: dict[str, type]) -> T:
        hints = get_type_hints(cls)
        allowed = [f.name for f in _arguments(cls)]
        arguments: dict[str, Any] = {}
        if self.accept("(") and not self.accept(")"):
            while True:
                key = self.key(name, cls, allowed)
                if key in arguments:
                    raise InputError(f"argument '{key}' of {name} is given twice in '{self.text}'")
                arguments[key] = self.value(name, key, hints[key], nested)
                if self.accept(")"):
                    break
                self.expect(",")
        return cls(**arguments)

    def key(self, name: str, cls: type, allowed: list[str]) -> str:
        if getattr(cls, "positional", False) and self.peek(1) != "=":
            return allowed[0]
        key = self.word()
        if key not in allowed:
            raise unknown(f"argument of {name}", key, allowed)
        self.expect("=")
        return key

    def value(self, name: str, key: str, kind: Any, nested: dict[str, type]) -> Any:
        word = self.word()
        if kind is bool:
            if word not in ("true", "false"):
                raise InputError(f"{key} of {name} must be true or false, got '{word}'")
            return word == "true"
        if kind in (float, int):
            try:
                return kind(word)
            except ValueError:
                number = "a number" if kind is float else "a whole number"
                raise InputError(f"{key} of {name} must be {number}, got '{word}'") from None
        if kind is str:
            return word
        if get_origin(kind) is Literal:
            if word not in get_args(kind):
                raise unknown(f"{key} of {name}", word, get_args(kind))
            return word
        candidates = {n: cls for n, cls in nested.items() if issubclass(cls, kind)}
        if word not in candidates:
            raise unknown(key, word, candidates)
        return self.call(word, candidates[word], nested)


def _print_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
