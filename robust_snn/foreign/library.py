"""What the package must know of a library of spiking networks, and the table of those it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from robust_snn.gradients import BPTT
from robust_snn.kernels import Dynamics
from robust_snn.utils.errors import InputError

Spike = Callable[[Tensor], Tensor]


class Unreadable(Exception):
    """Why a neuron of another library cannot be described in our terms."""


def _unreadable(node: nn.Module) -> Any:
    raise Unreadable(f"the dynamics of {type(node).__name__} are not known")


@dataclass(frozen=True)
class Library:
    """How to handle the spiking neurons of one library.

    Attributes:
        name: Name of the library.
        owns: Tells its spiking neurons from other modules.
        swap: `swap(node, spike, detach_reset)` gives a context in which a neuron fires by the
            function `spike` of the distance to the threshold; see `overriding`.
        reset: Clears the state of one module.
        holds: Tells modules with a state between calls; the spiking neurons, if left out.
        fixed: Why a neuron's gradient must not be exchanged; None where it may.
        read: The dynamics of a neuron; raises `Unreadable` with the reason.
        own_mode: The gradient mode that a neuron has by itself; raises `Unreadable`.
        strict: Whether a membrane at the threshold does not fire yet.
        takes_one_step: Whether a call of a neuron is one time step, as opposed to all of them.
    """

    name: str
    owns: Callable[[nn.Module], bool]
    swap: Callable[[nn.Module, Spike, bool], AbstractContextManager[None]]
    reset: Callable[[nn.Module], object]
    holds: Callable[[nn.Module], bool] | None = None
    fixed: Callable[[nn.Module], str | None] = lambda node: None
    read: Callable[[nn.Module], Dynamics] = _unreadable
    own_mode: Callable[[nn.Module], BPTT] = _unreadable
    strict: bool = False
    takes_one_step: Callable[[nn.Module], bool] = lambda node: False

    def stateful(self, module: nn.Module) -> bool:
        """Whether the module keeps something between calls."""
        return (self.holds or self.owns)(module)


_REGISTERED: dict[str, Library] = {}
_BUILT_IN = ("spikingjelly", "snntorch")


def register(library: Library) -> None:
    """Teaches `adapt` the neurons of another library.

    Raises:
        InputError: If a library of that name is there already.
    """
    if library.name in _libraries():
        raise InputError(f"a library '{library.name}' is registered already; choose another name")
    _REGISTERED[library.name] = library


def _libraries() -> dict[str, Library]:
    modules = [import_module(f"robust_snn.foreign.{name}") for name in _BUILT_IN]
    return {module.LIBRARY.name: module.LIBRARY for module in modules} | _REGISTERED


def library(name: str) -> Library:
    """The library of that name."""
    return _libraries()[name]


def find_nodes(net: nn.Module) -> dict[str, tuple[nn.Module, Library]]:
    """The spiking neurons of other libraries in a net, by path."""
    known = _libraries().values()
    owners = {
        path: (module, next((library for library in known if library.owns(module)), None))
        for path, module in net.named_modules()
    }
    return {path: (node, owner) for path, (node, owner) in owners.items() if owner is not None}


def find_states(net: nn.Module) -> list[tuple[nn.Module, Library]]:
    """The modules of a net that keep something between calls."""
    known = _libraries().values()
    return [(m, library) for m in net.modules() for library in known if library.stateful(m)]


def library_names() -> tuple[str, ...]:
    """Names of all libraries that `adapt` knows."""
    return tuple(_libraries())


@contextmanager
def overriding(module: nn.Module, **attributes: Any) -> Iterator[None]:
    """Gives a module other attributes, whatever kind they were before, and restores those."""
    own = vars(module)
    before = {name: own[name] for name in attributes if name in own}
    try:
        own.update(attributes)
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)
