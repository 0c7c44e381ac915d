"""A network as attackers may run it: in eval mode, frozen, by several threads at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

from torch import nn

from robust_snn.gradients import TakesModes
from robust_snn.utils.plain_context import plain_context
from robust_snn.utils.shared_flags import turned_off

_turns: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()
_making_turns = Lock()


@contextmanager
def fixed_network(net: nn.Module) -> Iterator[None]:
    """Keeps a network in eval mode and its parameters frozen while it runs, in a plain context.

    Networks of other people keep a state while they run, so one thread at a time runs them.
    """
    modules = list(net.modules())
    parameters = [p for m in modules for p in m._parameters.values() if p is not None]
    with ExitStack() as stack:
        stack.enter_context(plain_context())
        stack.enter_context(turned_off("training", modules))
        stack.enter_context(turned_off("requires_grad", parameters))
        for module in modules:
            if hasattr(type(module), TakesModes.takes.__name__):  # isinstance takes 10 us
                stack.enter_context(_turn(module))
        yield


def _turn(module: nn.Module) -> RLock:
    """The lock of a module that one thread at a time may run."""
    with _making_turns:
        return _turns.setdefault(module, RLock())
