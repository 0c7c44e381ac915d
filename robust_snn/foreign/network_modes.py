"""Modes that see the operations of a network, and nothing of what is done around its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_modes: ContextVar[tuple[TorchFunctionMode, ...]] = ContextVar("function_modes", default=())


@contextmanager
def watching(*modes: TorchFunctionMode) -> Iterator[None]:
    """Lets modes see the operations of networks, and nothing of what is done around their calls."""
    token = _modes.set(modes)
    try:
        yield
    finally:
        _modes.reset(token)


@contextmanager
def inside_network() -> Iterator[None]:
    """What is done inside belongs to a network, so that the modes of `watching` see it."""
    with ExitStack() as stack:
        for mode in _modes.get():
            stack.enter_context(mode)
        yield


class Attached(TorchFunctionMode):
    """Keeps a graph of what a network computes without one, as of a state that it detaches."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with torch.enable_grad():
            if func in _DETACHING:
                return args[0].clone()  # elementwise, as the state is
            return func(*args, **(kwargs or {}))


_DETACHING = (Tensor.detach, torch.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
