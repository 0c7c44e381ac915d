"""What somebody may change in a network after a study of it, so that its findings hold no more."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from functools import partial
from types import FunctionType, NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.foreign.hidden_state import attributes_of, is_plain_object
from robust_snn.foreign.library import Library, find_states, with_libraries
from robust_snn.foreign.outside_state import places_outside
from robust_snn.neurons.fixed_network import may_keep_state
from robust_snn.utils.modules import modules_of

PLAIN = (str, int, float, NoneType, bytes, type, property, classmethod, staticmethod)
IGNORED = frozenset(vars(nn.Module()))  # bookkeeping of every module, and its mode
DEEPEST = 5  # containers in containers, beyond which nothing is looked into
READ = 1024  # entries of a tensor at most whose values are kept; of a larger one their sum is
MISSING = "missing"
SHARED = ("_places", "_outside")  # of copies of a network

Names = Mapping[nn.Module, Collection[str]]
Known = dict[Any, Any]  # what was found, by where it was found


class Watch:
    """The modules of other people in a network and their code, as they are when it is made.

    That is their numbers, words, functions and hooks, containers and objects of these, variables of
    their classes and of their files, and their tensors. Weights are not looked at, since every pass
    reads them anew: parameters and buffers with several values, for a recursion that is the same
    for all neurons does not follow from these.

    Args:
        net: The network, at rest.
        moving: Attributes that it changes by itself.
        live: Modules whose tensors are read anew in every pass.
    """

    def __init__(self, net: nn.Module, moving: Names, live: Collection[nn.Module]) -> None:
        self._moving = moving
        # with the names of libraries, which can be sent to other processes
        self._states = [(module, owner.name) for module, owner in find_states(net)]
        self._resting = frozenset(module for module, _ in self._states)
        self._live = frozenset(live)
        self._even = {module: _even_tensors(module) for module in _modules(net)}
        self._moved: frozenset[Any] = frozenset()
        self._places: list[tuple[Mapping[str, Any], str]] | None = places_outside(net)
        self._setup, self._numbers = self._look(net)
        self._outside = self._look_outside()
        self._modules: list[nn.Module] | None = _modules(net)

    def without_moved(self, net: nn.Module) -> Watch:
        """The watch without what a run of the network has changed."""
        setup, numbers = self._look(net)
        pairs = (
            (self._setup, setup),
            (self._numbers, numbers),
            (self._outside, self._look_outside()),
        )
        self._moved = frozenset(key for then, now in pairs for key in _differences(then, now))
        if self.other_module(net) is not None:  # it builds some in its calls
            self._modules = None
        return self

    def unchanged(self, net: nn.Module) -> bool:
        """Whether the modules are the same and set up as they were, but for their tensors."""
        if self._places is None:  # in another process, whose code is as it was brought
            self._places = places_outside(net)
            self._outside = self._look_outside()
        same = self._modules is None or set(self._modules) == set(_modules(net))
        return same and not (
            _differences(self._setup, self._look(net)[0], self._moved)
            or _differences(self._outside, self._look_outside(), self._moved)
        )

    def same_numbers(self, net: nn.Module) -> bool:
        """Whether the tensors hold what they held."""
        return not _differences(self._numbers, self._look(net)[1], self._moved)

    def other_module(self, net: nn.Module) -> str | None:
        """Which module is another one, if one is."""
        if self._modules is None:
            return None
        now = dict.fromkeys(_modules(net))
        for path, module in net.named_modules():
            if module in now and module not in self._modules:
                return f"{path} is a new {type(module).__name__}"
        gone = [type(module).__name__ for module in self._modules if module not in now]
        return f"it has lost a {gone[0]}" if gone else None

    def states(self) -> list[tuple[nn.Module, Library]]:
        """What `find_states` finds in the network while it is unchanged."""
        return with_libraries(self._states)

    def _look(self, net: nn.Module) -> tuple[Known, Known]:
        """How the modules are set up, and what their tensors hold."""
        setup, numbers = Known(), Known()
        for module in modules_of(net):
            if module._forward_hooks or module._forward_pre_hooks:
                setup[module, "hooks"] = _hooks(module)
            if not may_keep_state(type(module)):
                continue
            moving, tensors = self._moving.get(module, ()), list[Any]()
            # a library keeps states in tensors and containers, which need not be at rest
            depth = DEEPEST if module in self._resting else 0
            for name, value in vars(module).items():
                if name not in IGNORED and name not in moving:
                    setup[module, name] = described(value, tensors, depth)
            if module not in self._live:
                even = self._even.get(module, ())
                own = {n: t for n, t in _tensors(module) if n in even and n not in moving}
                numbers[module] = [*tensors, *map(_value, own.values())]
        return setup, numbers

    def _look_outside(self) -> Known:
        found = Known()
        for place, (where, name) in enumerate(self._places or ()):
            tensors = list[Any]()
            found[place] = described(where.get(name, MISSING), tensors), tensors
        return found

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_places": None, "_outside": {}}

    def __deepcopy__(self, memo: Any) -> Watch:
        copied = object.__new__(Watch)
        own = {name: value for name, value in vars(self).items() if name not in SHARED}
        vars(copied).update(copy.deepcopy(own, memo))
        vars(copied).update({name: getattr(self, name) for name in SHARED})
        return copied


def _modules(net: nn.Module) -> list[nn.Module]:
    """The modules of other people in a network."""
    return [module for module in modules_of(net) if may_keep_state(type(module))]


def described(value: Any, tensors: list[Any], depth: int = 0) -> Any:
    """A value as something to compare; None of what changes nothing that was found.

    Args:
        value: Any value.
        tensors: Gets what the tensors in it hold.
        depth: How many containers it is in.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, nn.Module):  # which is looked at by itself
        return None
    if depth >= DEEPEST:
        return value if callable(value) else None
    if isinstance(value, Tensor):
        tensors.append(_value(value))
        return None

    def inner(item: Any) -> Any:
        return described(item, tensors, depth + 1)

    if isinstance(value, np.ndarray):
        return value.tobytes() if value.size <= READ else float(value.sum())
    if isinstance(value, Collection) and len(value) > READ:
        return type(value), len(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [*map(inner, value)]
    if isinstance(value, Mapping):
        return {key: inner(item) for key, item in value.items()}
    if isinstance(value, FunctionType):
        return value, inner(value.__defaults__), inner(value.__kwdefaults__), _cells(value, inner)
    if isinstance(value, partial):
        return [inner(part) for part in (value.func, value.args, value.keywords)]
    if is_plain_object(value):
        return type(value), inner(attributes_of(value))
    return value if callable(value) else None


def _cells(function: FunctionType, inner: Any) -> list[Any]:
    return [inner(attributes_of(cell)["cell_contents"]) for cell in function.__closure__ or ()]


def _hooks(module: nn.Module) -> list[Any]:
    """The hooks that change what a module gives, but for ours, which only look."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    theirs = [h for h in hooks if not getattr(h, "__module__", "").startswith("robust_snn")]
    tensors = list[Any]()
    return [*(described(hook, tensors) for hook in theirs), tensors]


def _even_tensors(module: nn.Module) -> list[str]:
    """Names of the parameters and buffers that hold one number, once or several times."""
    return [name for name, tensor in _tensors(module) if _is_even(tensor.detach())]


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    own = (*module._parameters.items(), *module._buffers.items())
    return [(name, tensor) for name, tensor in own if tensor is not None]


def _is_even(tensor: Tensor) -> bool:
    """Whether a tensor holds one number; whole ones count batches."""
    if not tensor.is_floating_point() or not tensor.numel():
        return False
    return tensor.numel() == 1 or bool((tensor == tensor.flatten()[0]).all())


def _value(tensor: Tensor) -> Any:
    """What a tensor holds; on a GPU, which would have to wait, its version."""
    tensor = tensor.detach()
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        return tensor.data_ptr(), tensor._version
    if tensor.numel() == 1:
        return tensor.item()
    if tensor.numel() > READ:
        return tuple(tensor.shape), float(tensor.sum())
    return tuple(tensor.shape), tensor.tolist()


def _differences(then: Known, now: Known, besides: Collection[Any] = ()) -> list[Any]:
    """Where two looks differ."""
    if then == now:
        return []
    both = then.keys() & now.keys()
    keys = (then.keys() ^ now.keys()) | {key for key in both if then[key] != now[key]}
    return [key for key in keys if key not in besides]
