"""A network as attackers may run it: in eval mode, frozen, by several threads at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from operator import attrgetter
from threading import RLock
from weakref import WeakKeyDictionary

from torch import nn

from robust_snn.gradients import TakesModes
from robust_snn.utils.fork_safe_lock import ForkSafeLock
from robust_snn.utils.modules import modules_of
from robust_snn.utils.plain_context import plain_context
from robust_snn.utils.shared_flags import all_off, turned_off

STATELESS = ("torch", "torchvision", "timm", "robust_snn")  # packages whose layers keep no state


_parameters = attrgetter("_parameters")
_turns: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()
_making_turns = ForkSafeLock()
_kinds: WeakKeyDictionary[type[nn.Module], bool] = WeakKeyDictionary()
if hasattr(os, "register_at_fork"):  # a forked process has no thread that would give a turn back
    os.register_at_fork(after_in_child=_turns.clear)


@contextmanager
def fixed_network(net: nn.Module) -> Iterator[None]:
    """Keeps a network as `frozen` does, in a plain context."""
    first = next(net.parameters(), None)
    with plain_context(device=None if first is None else first.device), frozen(modules_of(net)):
        yield


@contextmanager
def frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Keeps the modules of a network in eval mode and its parameters frozen while it runs.

    Modules of other people keep a state while they run, so one thread at a time runs them.
    """
    own = chain.from_iterable(parts.values() for parts in map(_parameters, modules))
    parameters = [parameter for parameter in own if parameter is not None]
    with ExitStack() as stack:
        for flag, owners in (("training", modules), ("requires_grad", parameters)):
            if not all_off(flag, owners):  # a pass sets none, so that it need not look again
                stack.enter_context(turned_off(flag, owners))
        if stateful := {kind for kind in set(map(type, modules)) if may_keep_state(kind)}:
            taken = (module for module in modules if type(module) in stateful)
            for module in sorted(taken, key=id):  # in one order, whatever contains them
                stack.enter_context(_turn(module))
        yield


def may_keep_state(kind: type[nn.Module]) -> bool:
    """Whether modules of a class are of other people, or run such modules."""
    if (known := _kinds.get(kind)) is None:
        takes = hasattr(kind, TakesModes.takes.__name__)  # isinstance takes 10 us
        known = _kinds[kind] = takes or kind.__module__.partition(".")[0] not in STATELESS
    return known


def _turn(module: nn.Module) -> RLock:
    """The lock of a module that one thread at a time may run."""
    with _making_turns:
        return _turns.setdefault(module, RLock())
