"""Plain functions of images as networks: the modules that they call belong to them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

DEEPEST = 4  # functions in functions, and modules in containers, that are followed


class FunctionNet(nn.Module):
    """A function `f(images) -> logits` as a network.

    Its modules are those of the function: what it is a method of, what it closes over, and what it
    reads from its module's globals. So its noise gets keys, and its gradient modes are reached.

    Args:
        function: Maps images `[B, C, H, W]` to logits `[B, K]`.

    Raises:
        InputError: If it calls a `Victim`, whose noise would escape the keys, or makes networks.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if isinstance(function, type):
            raise InputError(f"expected a network, got the class {function.__name__}; make one")
        found = list(dict.fromkeys(_modules(function, DEEPEST)))
        if any(isinstance(m, Victim) for module in found for m in module.modules()):
            raise InputError("the function calls a Victim; give the victim itself")
        self.function = function
        self.called = nn.ModuleList(found)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def as_network(model: Any) -> nn.Module:
    """A module as it is, and a function as a network.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(model, nn.Module):
        return model
    if callable(model):
        return FunctionNet(model)
    raise InputError(f"expected a torch.nn.Module or a function, got {type(model).__name__}")


def _modules(value: Any, depth: int) -> Iterator[nn.Module]:
    """The modules that a value is, holds or calls."""
    if isinstance(value, nn.Module):
        yield value
    elif depth:
        for inner in _within(value):
            yield from _modules(inner, depth - 1)


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set):
        yield from value
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif inspect.ismethod(value):
        yield from (value.__self__, value.__func__)
    elif inspect.isfunction(value):
        seen = inspect.getclosurevars(value)
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        yield from (*seen.nonlocals.values(), *seen.globals.values(), *defaults)
    elif hasattr(value, "__dict__") and not inspect.ismodule(value) and not inspect.isclass(value):
        yield from vars(value).values()
