"""What somebody may change in a network after a study of it, so that its findings hold no more."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType, NoneType
from typing import Any, NamedTuple

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

HOOKS = "hooks"
Place = tuple[Any, ...]  # a module, an attribute, and the way inside of that
Meet = Callable[[nn.Module], None]
Known = dict[Place, Any]  # what was found, by where it was found


class Numbers(NamedTuple):
    """What a tensor holds."""

    held: Any


class Watch:
    """The modules of other people in a network and their code, as they are when it is made.

    That is their numbers, words, functions and hooks, containers and objects of these, variables of
    their classes and of their files, and their tensors. Modules in containers belong to them.
    Weights are not looked at, since every pass reads them anew: parameters and buffers with several
    values, for a recursion that is the same for all neurons does not follow from these.

    Args:
        net: The network, at rest.
        moving: What it changes by itself: a module, an attribute, and the place in that.
        live: Modules whose tensors are read anew in every pass.
    """

    def __init__(
        self, net: nn.Module, moving: Iterable[Place], live: Collection[nn.Module]
    ) -> None:
        # with the names of libraries, which can be sent to other processes
        self._states = [(module, owner.name) for module, owner in find_states(net)]
        self._resting = frozenset(module for module, _ in self._states)
        self._live = frozenset(live)
        self._even: dict[nn.Module, list[str]] = {}
        self._moved = frozenset(moving)
        self._places: list[tuple[Mapping[str, Any], str]] | None = places_outside(net)
        self._found = self._look(net)
        self._outside = self._look_outside()
        self._modules: list[nn.Module] | None = _modules(net)

    def without_moved(self, net: nn.Module) -> Watch:
        """The watch without what a run of the network has changed."""
        self._moved |= {place for place, _ in self._differences(net)}
        if self.other_module(net) is not None:  # it builds some in its calls
            self._modules = None
        return self

    def unchanged(self, net: nn.Module) -> bool:
        """Whether the modules are the same and set up as they were, but for their tensors."""
        if self._places is None:  # in another process, whose code is as it was brought
            self._places = places_outside(net)
            self._outside = self._look_outside()
        same = self._modules is None or set(self._modules) == set(_modules(net))
        return same and all(numbers for _, numbers in self._differences(net))

    def same_numbers(self, net: nn.Module) -> bool:
        """Whether the tensors hold what they held."""
        return not any(self._differences(net))

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

    def _differences(self, net: nn.Module) -> Iterator[tuple[Place, bool]]:
        """What differs now and is not known to move, and whether it is the numbers of a tensor."""
        pairs = (self._found, self._look(net)), (self._outside, self._look_outside())
        for then, now in pairs:
            for place, numbers in _differences(then, now):
                read_anew = numbers and place[0] in self._live
                moves = (place[:end] in self._moved for end in range(1, len(place) + 1))
                if not (read_anew or any(moves)):
                    yield place, numbers

    def _look(self, net: nn.Module) -> Known:
        """How the modules are set up, and what their tensors hold."""
        found, modules = Known(), dict.fromkeys(modules_of(net))
        todo = list(modules)

        def meet(module: nn.Module) -> None:
            for inner in modules_of(module):
                if inner not in modules:
                    modules[inner] = None
                    todo.append(inner)

        for module in todo:  # which grows
            if (module._forward_hooks or module._forward_pre_hooks) and (
                own := _hooks(module, meet)
            ):
                found[module, HOOKS] = own
            if not may_keep_state(type(module)):
                continue
            # a library keeps states in tensors and containers, which need not be at rest
            depth = DEEPEST if module in self._resting else 0
            for name, value in vars(module).items():
                if name not in IGNORED:
                    found[module, name] = described(value, meet, depth)
            if module not in self._live:
                if module not in self._even:
                    self._even[module] = _even_tensors(module)
                for name, tensor in _tensors(module):
                    if name in self._even[module]:
                        found[module, name] = Numbers(_value(tensor))
        return found

    def _look_outside(self) -> Known:
        places = enumerate(self._places or ())
        return {(n,): described(where.get(name, MISSING)) for n, (where, name) in places}

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


def described(value: Any, meet: Meet = lambda module: None, depth: int = 0) -> Any:
    """A value as something to compare; None of what changes nothing that was found.

    Args:
        value: Any value.
        meet: Gets the modules in it, which are looked at by themselves.
        depth: How many containers it is in.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, nn.Module):
        meet(value)
        return value
    if isinstance(value, Tensor):
        return Numbers(_value(value)) if depth < DEEPEST else None
    if depth >= DEEPEST:
        return value if callable(value) else None

    def inner(item: Any) -> Any:
        return described(item, meet, depth + 1)

    if isinstance(value, np.ndarray):
        return value.tobytes() if value.size <= READ else float(value.sum())
    if isinstance(value, Collection) and len(value) > READ:
        return type(value), len(value)
    if isinstance(value, set | frozenset):
        return [*map(inner, value)]
    if isinstance(value, Mapping):
        return {key: inner(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return {place: inner(item) for place, item in enumerate(value)}
    if isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = {name: {k: inner(v) for k, v in attributes_of(cell).items()} for name, cell in cells}
        given = {"defaults": inner(value.__defaults__), "words": inner(value.__kwdefaults__)}
        return {"function": value, **given, **held}
    if isinstance(value, partial):
        return {"function": inner(value.func), 0: inner(value.args), 1: inner(value.keywords)}
    if is_plain_object(value):
        return {"": type(value), **{name: inner(v) for name, v in attributes_of(value).items()}}
    return value if callable(value) else None


def _hooks(module: nn.Module, meet: Meet) -> dict[int, Any]:
    """The hooks that change what a module gives, but for ours, which only look."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    theirs = [hook for hook in hooks if not _is_ours(hook)]
    return {place: described(hook, meet) for place, hook in enumerate(theirs)}


def _is_ours(hook: Any) -> bool:
    function = hook.func if isinstance(hook, partial) else hook
    return (getattr(function, "__module__", None) or "").startswith("robust_snn.")


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


def _differences(then: Any, now: Any, place: Place = ()) -> Iterator[tuple[Place, bool]]:
    """Where two looks differ, and whether only in the numbers of a tensor."""
    if then is now or then == now:
        return
    if isinstance(then, dict) and isinstance(now, dict) and not place:
        for key in dict.fromkeys((*then, *now)):
            yield from _differences(then.get(key, MISSING), now.get(key, MISSING), key)
    elif isinstance(then, dict) and isinstance(now, dict) and then.keys() == now.keys():
        for key in then:
            yield from _differences(then[key], now[key], (*place, key))
    else:
        yield place, isinstance(then, Numbers) and isinstance(now, Numbers)
