"""Operands of a function of tensors, whether its caller gave them by position or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("condition", "input", "other", "values")  # in the order in which functions take them


def by_position(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with the operands in front, as `torch.ge(input=v, other=1)` is `torch.ge(v, 1)`.

    Returns:
        Positional arguments, and the others by name.
    """
    named = [kwargs[name] for name in NAMES if name in kwargs]
    return (*args, *named), {name: v for name, v in kwargs.items() if name not in NAMES}
