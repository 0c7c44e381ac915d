"""Modes that see the operations of a network, and nothing of what is done around its calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

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
