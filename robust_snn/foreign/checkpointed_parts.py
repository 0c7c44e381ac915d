"""Parts of a network behind gradient checkpointing, which runs them again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch.utils import checkpoint as library

GENERATORS = (  # of which a release has one or both
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
)
_running_once: ContextVar[bool] = ContextVar("without_checkpointing", default=False)


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Runs what `torch.utils.checkpoint` is given once, and keeps what its gradient needs.

    A second run would find the network without the state, the fixed weights and the spike functions
    of the first.
    """
    _install()
    token = _running_once.set(True)
    try:
        yield
    finally:
        _running_once.reset(token)


class _CheckpointFunction:
    """`torch.utils.checkpoint.CheckpointFunction`, which may run once."""

    _asks_first = True
    original: Any = library.CheckpointFunction

    @classmethod
    def apply(cls, run: Callable[..., Any], preserve: bool, *arguments: Any) -> Any:
        if _running_once.get():
            return run(*arguments)
        return cls.original.apply(run, preserve, *arguments)


def _install() -> None:
    """Lets checkpointing ask whether it is wanted; once per process."""
    if getattr(library.CheckpointFunction, "_asks_first", False):
        return
    library.CheckpointFunction = _CheckpointFunction  # type: ignore[misc, assignment]
    for name in GENERATORS:
        if hasattr(library, name):
            setattr(library, name, _asking(getattr(library, name)))


def _asking(generator: Callable[..., Iterator[None]]) -> Callable[..., Iterator[None]]:
    """What prepares a run, ends it, and does neither where the part runs once."""

    def ask(*arguments: Any, **named: Any) -> Iterator[None]:
        if _running_once.get():
            yield
        else:
            yield from generator(*arguments, **named)

    return ask
