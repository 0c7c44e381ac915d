"""Flags of modules and parameters that several threads may use at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_users: dict[str, dict[Any, int]] = {"training": {}, "requires_grad": {}}


@contextmanager
def turned_off(flag: str, owners: Iterable[Any]) -> Iterator[None]:
    """Keeps a flag of some objects at False for as long as any thread is inside.

    Afterwards each has the value that it had before, whatever was set in between.

    Args:
        flag: `"training"` of modules, or `"requires_grad"` of parameters.
        owners: The objects.
    """
    owners = list(owners)
    on = _turn_off(flag, owners)
    try:
        yield
    finally:
        _turn_back(flag, owners, on)


# Compiled, these two would be compiled anew for every shape of a parameter.


@torch.compiler.disable
def _turn_off(flag: str, owners: list[Any]) -> list[Any]:
    """Turns the flag off, and returns the owners that have it on otherwise."""
    users = _users[flag]
    with _lock:
        on = [owner for owner in owners if getattr(owner, flag) or owner in users]
        for owner in on:
            users[owner] = users.get(owner, 0) + 1
            _set(owner, flag, False)
    return on


@torch.compiler.disable
def _turn_back(flag: str, owners: list[Any], on: list[Any]) -> None:
    users = _users[flag]
    with _lock:
        for owner in on:
            users[owner] -= 1
            if not users[owner]:
                del users[owner]
        freed = [owner for owner in on if owner not in users]
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
