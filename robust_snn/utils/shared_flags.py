"""Flags of modules and parameters that several threads may use at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch


class _Users:
    """Who keeps which flags off.

    Attributes:
        counts: How many do, by flag and owner.
        inside: Flag, owners and those that have it on otherwise, by thread and entry.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, dict[Any, int]] = {"training": {}, "requires_grad": {}}
        self.inside: dict[tuple[int, object], tuple[str, list[Any], list[Any]]] = {}

    def forget_other_threads(self) -> None:
        """In a forked process they are gone: the flags that they kept off come back."""
        self.lock, thread = threading.Lock(), threading.get_ident()
        for entry in [entry for entry in self.inside if entry[0] != thread]:
            _turn_back(entry)


_users = _Users()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_users.forget_other_threads)


@contextmanager
def turned_off(flag: str, owners: Iterable[Any]) -> Iterator[None]:
    """Keeps a flag of some objects at False for as long as any thread is inside.

    Afterwards each has the value that it had before, whatever was set in between.

    Args:
        flag: `"training"` of modules, or `"requires_grad"` of parameters.
        owners: The objects.
    """
    entry = _turn_off(flag, list(owners))
    try:
        yield
    finally:
        _turn_back(entry)


@torch.compiler.disable
def all_off(flag: str, owners: Iterable[Any]) -> bool:
    """Whether a flag of all objects is off, and no thread keeps it off for a while."""
    with _users.lock:
        return not _users.counts[flag] and not any(map(attrgetter(flag), owners))


# Compiled, these two would be compiled anew for every shape of a parameter.


@torch.compiler.disable
def _turn_off(flag: str, owners: list[Any]) -> tuple[int, object]:
    """Turns the flag off, and returns the name of this entry."""
    counts, entry = _users.counts[flag], (threading.get_ident(), object())
    with _users.lock:
        on = [owner for owner in owners if getattr(owner, flag) or (counts and owner in counts)]
        for owner in on:
            counts[owner] = counts.get(owner, 0) + 1
            _set(owner, flag, False)
        _users.inside[entry] = flag, owners, on
    return entry


@torch.compiler.disable
def _turn_back(entry: tuple[int, object]) -> None:
    with _users.lock:
        flag, owners, on = _users.inside.pop(entry)
        counts = _users.counts[flag]
        for owner in on:
            counts[owner] -= 1
            if not counts[owner]:
                del counts[owner]
        freed = [owner for owner in on if owner not in counts]
        for owner in owners:
            if getattr(owner, flag):  # set in between, as attack libraries do
                _set(owner, flag, False)
        for owner in freed:
            _set(owner, flag, True)


def _set(owner: Any, flag: str, value: bool) -> None:
    if flag in vars(owner):  # as in a module, whose own `__setattr__` takes 20 times as long
        vars(owner)[flag] = value
    else:
        setattr(owner, flag, value)
