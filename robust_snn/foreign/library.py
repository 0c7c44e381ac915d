"""What the package must know of a library of spiking networks, and the table of those it knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
        detaches: Whether no gradient passes through the reset of a neuron by itself.
        strict: Whether a membrane at the threshold does not fire yet.
        takes_one_step: Whether a call of a neuron is one time step, as opposed to all of them.
        takes_all_steps: Whether a call of a module is all time steps, the first axis.
        fires_by: The function that `swap` exchanges; its spikes are kept. Without it a neuron fires
            where the distance to the threshold is positive, or zero unless `strict`.
        on_torch: A context in which a module runs on PyTorch itself, not on kernels that know no
            gradient but their own.
    """

    name: str
    owns: Callable[[nn.Module], bool]
    swap: Callable[[nn.Module, Spike, bool], AbstractContextManager[None]]
    reset: Callable[[nn.Module], object]
    holds: Callable[[nn.Module], bool] | None = None
    fixed: Callable[[nn.Module], str | None] = lambda node: None
    read: Callable[[nn.Module], Dynamics] = _unreadable
    own_mode: Callable[[nn.Module], BPTT] = _unreadable
    detaches: Callable[[nn.Module], bool] = lambda node: False
    strict: bool = False
    takes_one_step: Callable[[nn.Module], bool] = lambda node: False
    takes_all_steps: Callable[[nn.Module], bool] = lambda module: False
    fires_by: Callable[[nn.Module], Spike] | None = None
    on_torch: Callable[[nn.Module], AbstractContextManager[None]] = lambda module: nullcontext()

    def stateful(self, module: nn.Module) -> bool:
        """Whether the module keeps something between calls."""
        return (self.holds or self.owns)(module)


def library_of_states(
    name: str, holds: Callable[[nn.Module], bool], reset: Callable[[nn.Module], object]
) -> Library:
    """A library whose states are known and whose neurons are found while a net runs."""
    return Library(
        name,
        owns=lambda module: False,
        swap=lambda node, spike, detach_reset: nullcontext(),
        reset=reset,
        holds=holds,
    )


_REGISTERED: dict[str, Library] = {}
_BUILT_IN = ("spikingjelly", "snntorch", "braincog", "lava", "sinabs", "state_passing")


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


def with_libraries(states: Iterable[tuple[nn.Module, str]]) -> list[tuple[nn.Module, Library]]:
    """The same as `find_states` found, of which names of libraries were kept."""
    known = _libraries()
    return [(module, known[name]) for module, name in states]


def takes_all_steps(net: nn.Module) -> bool:
    """Whether a module of a net takes all time steps in one call."""
    known = _libraries().values()
    return any(library.takes_all_steps(module) for module in net.modules() for library in known)


def known_class(
    node: nn.Module, package: str, known: Collection[str], dynamics: Collection[str]
) -> str:
    """Name of the library's class whose dynamics a neuron has.

    A subclass that overrides none of its methods has those of its base.

    Args:
        node: The neuron.
        package: Name of the library's package.
        known: Names of the classes whose dynamics are known.
        dynamics: Names of the methods that make up the dynamics.

    Raises:
        Unreadable: If it has others.
    """
    kind = type(node).__name__
    changed = [
        name
        for name, value in vars(node).items()
        if name in dynamics and value.__module__.partition(".")[0] != "robust_snn"  # see `swap`
    ]
    for cls in type(node).__mro__:
        if cls.__module__.partition(".")[0] == package:
            if cls.__name__ in known and not changed:
                return cls.__name__
            break  # another neuron of the library, whatever its base is
        changed += [name for name in vars(cls) if name in dynamics]
    of_its_own = f"{kind} has a {changed[0]} of its own" if changed else None
    raise Unreadable(of_its_own or f"the dynamics of {kind} are not known")


def scalar(value: Any, name: str) -> float:
    """A constant of a neuron that is a number, or a tensor of one.

    Raises:
        Unreadable: If it has several.
    """
    if isinstance(value, Tensor) and value.numel() != 1:
        raise Unreadable(f"it has a {name} for each neuron or channel")
    return float(value)


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
