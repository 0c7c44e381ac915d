"""What a network keeps between calls, found by running it: attributes and buffers that move."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.utils.errors import InputError

DEEPEST = 5  # levels of containers and plain objects in which a state is looked for
RESETS = (
    *("reset", "reset_state", "reset_states", "reset_mem", "reset_membrane", "reset_hidden"),
    *("reset_net", "n_reset", "init_state", "init_states", "init_mem", "clear_state"),
)
Key = tuple[str, str]  # path of a module and name of an attribute
Run = Callable[[Tensor], Sequence[Tensor]]


def snapshot(net: nn.Module) -> dict[Key, Any]:
    """Copies of everything that a network could keep between calls but its weights."""
    kept = {}
    shared = _Shared()
    for path, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        own = {k: v for k, v in vars(module).items() if k not in _PLAIN and k != "training"}
        for name, value in {**own, **module._buffers}.items():
            kept[path, name] = shared.made(copied, value)
    return kept


class _Shared:
    """Makes one thing of every list or table, however many attributes hold it."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], Any] = {}

    def made(self, make: Callable[..., Any], value: Any, *others: Any) -> Any:
        if type(value) not in (list, dict):
            return make(value, *others)
        ids = (id(value), *map(id, others))
        if ids not in self._made:
            self._made[ids] = make(value, *others)
        return self._made[ids]


_PLAIN = frozenset(vars(nn.Module()))  # what every module has


def moved(before: Mapping[Key, Any], after: Mapping[Key, Any]) -> list[Key]:
    """Names of what differs between two snapshots."""
    return [key for key in after if key not in before or not same(before[key], after[key])]


def pruned(before: Any, after: Any) -> Any:
    """A copy of which everything that did not move stays as it will be, such as a leak."""
    if same(before, after):
        return Unmoved(before)
    if isinstance(before, _Object) and isinstance(after, _Object):
        if before.value is after.value:
            now = after.attributes
            attributes = {n: pruned(v, now.get(n, MISSING)) for n, v in before.attributes.items()}
            return _Object(before.value, attributes, pruned(before.items, after.items))
    elif type(before) is type(after) is dict:
        return {key: pruned(item, after.get(key, MISSING)) for key, item in before.items()}
    elif type(before) is type(after) in (list, tuple) and len(before) == len(after):
        return type(before)(map(pruned, before, after))
    return before


def moving_places(kept: Any) -> Iterator[tuple[Any, ...]]:
    """Where in what `pruned` gave something moves: keys, positions and names of attributes."""
    if isinstance(kept, _Object):
        yield from moving_places(kept.attributes)
        yield from () if kept.items is None else moving_places(kept.items)
        return
    parts = dict(enumerate(kept)) if type(kept) in (list, tuple) else kept
    if not isinstance(parts, dict):
        yield from () if isinstance(kept, Unmoved) else ((),)
        return
    for key, part in parts.items():
        yield from ((key, *place) for place in moving_places(part))


def moving_leaves(kept: Any, now: Any) -> Iterator[tuple[Any, Any]]:
    """What moves from rest: the values there, and those in a copy from after a call.

    The length of a list that has grown stands before its items.
    """
    if isinstance(kept, Unmoved):
        return
    if isinstance(now, _Object):
        before = kept if isinstance(kept, _Object) else _Object(None, {}, MISSING)
        yield from moving_leaves(before.attributes, now.attributes)
        if now.items is not None:
            yield from moving_leaves(before.items, now.items)
    elif type(now) is dict:
        table = kept if isinstance(kept, dict) else {}
        for key, item in now.items():
            yield from moving_leaves(table.get(key, MISSING), item)
    elif type(now) in (list, tuple):
        items = kept if isinstance(kept, list | tuple) else []
        if len(items) != len(now):
            yield len(items), len(now)
            items = [MISSING] * len(now)
        for before, item in zip(items, now, strict=True):
            yield from moving_leaves(before, item)
    elif not same(kept, now):
        yield kept, now


def restore(net: nn.Module, rest: Mapping[Key, Any]) -> None:
    """Gives a network the values of a snapshot back; what it lacked is deleted."""
    shared = _Shared()
    for (path, name), value in rest.items():
        module = _owner(net, (path, name))
        if module is None:
            continue
        if value is MISSING:
            module._buffers.pop(name, None)
            vars(module).pop(name, None)
        elif name in module._buffers:
            module._buffers[name] = _like(value, module._buffers[name])
        else:
            now = vars(module).get(name, MISSING)
            vars(module)[name] = shared.made(_like, value, now)


def restore_all(net: nn.Module, before: Mapping[Key, Any]) -> None:
    """Gives a network everything back that a snapshot has, after a call that failed."""
    lacked = {key: MISSING for key in snapshot(net) if key not in before}
    restore(net, {**before, **lacked})


class _Missing:
    """Stands for an attribute that a module has only after a call."""

    def __deepcopy__(self, memo: Any) -> _Missing:
        return self

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Unmoved(NamedTuple):
    """What a call leaves as it is: it keeps the value that it has, and this one if it has none."""

    value: Any


def copied(value: Any, depth: int = 0) -> Any:
    """A copy of a value that later changes do not reach, as far as it could hold a state."""
    if isinstance(value, Tensor):
        return value if isinstance(value, nn.Parameter) else value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if depth >= DEEPEST:
        return value

    def inner(item: Any) -> Any:
        return copied(item, depth + 1)

    if type(value) in (list, tuple):
        return type(value)(map(inner, value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(inner, value))
    if type(value) is dict:
        return {key: inner(item) for key, item in value.items()}
    if isinstance(value, MutableMapping):
        return _Object(value, {}, {key: inner(item) for key, item in value.items()})
    if isinstance(value, list | deque):
        return _Object(value, {}, list(map(inner, value)))
    if isinstance(value, FunctionType):
        cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        kept = {name: inner(cell) for name, cell in cells.items()}
        return _Object(value, kept | {name: inner(v) for name, v in vars(value).items()})
    if isinstance(value, CellType):
        return _Object(value, {"cell_contents": inner(_contents(value))})
    if is_plain_object(value):
        return _Object(value, {name: inner(v) for name, v in attributes_of(value).items()})
    return value


def same(a: Any, b: Any) -> bool:
    """Whether two copies are equal."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        equal = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
        return equal and bool(((a == b) | ((a != a) & (b != b))).all())
    if type(a) is not type(b):
        return False
    if isinstance(a, _Object):
        items = same(a.items, b.items)
        return a.value is b.value and items and same(a.attributes, b.attributes)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, bool | int | float | str | type(None)):
        return bool(a == b) or (a != a and b != b)
    return a is b


class _Object:
    """An object of somebody's own class, and copies of its attributes and of what it contains."""

    def __init__(self, value: Any, attributes: dict[str, Any], items: Any = None) -> None:
        self.value = value
        self.attributes = attributes
        self.items = items

    def restore(self) -> Any:
        """Gives the object everything back."""
        now = attributes_of(self.value)
        for name in now.keys() - self.attributes.keys():
            object.__delattr__(self.value, name)
        cells = self.value.__code__.co_freevars if isinstance(self.value, FunctionType) else ()
        for name, attribute in self.attributes.items():
            if name in cells:
                if isinstance(attribute, _Object):
                    attribute.restore()
            elif isinstance(self.value, CellType):
                if attribute is not MISSING:
                    self.value.cell_contents = _like(attribute, now.get(name, MISSING))
            else:  # not by `setattr` of its class, which frozen objects refuse
                object.__setattr__(self.value, name, _like(attribute, now.get(name, MISSING)))
        if self.items is not None and not isinstance(self.items, Unmoved):
            fresh = _like(self.items, type(self.items)(self.value))
            self.value.clear()
            if isinstance(fresh, dict):
                self.value.update(fresh)
            else:
                self.value.extend(fresh)
        return self.value


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, those in slots among them."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                found[name] = getattr(value, name)
    if isinstance(value, CellType):
        found["cell_contents"] = _contents(value)
    return found


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return MISSING


def is_plain_object(value: Any) -> bool:
    """Whether a value is an object of somebody's own class, whose attributes may be a state."""
    kind = type(value)
    if isinstance(value, nn.Module | Tensor | type | str | bytes | ModuleType | MethodType):
        return False
    own = hasattr(value, "__dict__") or any("__slots__" in vars(c) for c in kind.__mro__)
    return own and kind.__module__.partition(".")[0] not in ("torch", "builtins", "functools")


def _like(value: Any, current: Any) -> Any:
    """A fresh copy of a value, on the device and in the precision of what stands there now."""
    if isinstance(value, Unmoved):
        return _like(value.value, MISSING) if current is MISSING else current
    if isinstance(value, _Object):
        return value.restore()
    if type(value) in (list, tuple):
        alike = type(current) is type(value) and len(current) == len(value)
        held = current if alike else [MISSING] * len(value)
        return type(value)(map(_like, value, held))
    if type(value) is dict:
        known = current if isinstance(current, dict) else {}
        return {key: _like(item, known.get(key, MISSING)) for key, item in value.items()}
    fresh = copied(value)
    if isinstance(fresh, Tensor) and isinstance(current, Tensor) and fresh.is_floating_point():
        return fresh.to(current.device, current.dtype if current.is_floating_point() else None)
    return fresh


def find_state(
    net: nn.Module, run: Run, images: tuple[Tensor, Tensor], known: frozenset[nn.Module]
) -> dict[Key, Any]:
    """What a network keeps between calls, with the values that it has at rest.

    Args:
        net: The network.
        run: Runs it on images and returns its tensors.
        images: Two batches of the same shape.
        known: Modules that are at rest, since their library has reset them.

    Raises:
        InputError: If it is not at rest and has no method that brings it there.
    """
    before = snapshot(net)
    try:
        first = run(images[0])
    except Exception:
        # the state of an earlier call may have been one of another batch
        left = [key for key, value in before.items() if _is_state(net, key, value, known)]
        if not left:
            raise
        _reset(net)
        before = snapshot(net)
        if any(_is_state(net, key, before[key], known) for key in left):
            raise _not_at_rest(net, left) from None
        first = run(images[0])
    after = snapshot(net)
    keys = moved(before, after)
    shared = _Shared()
    rest = {key: shared.made(pruned, before.get(key, MISSING), after[key]) for key in keys}
    theirs = [key for key in keys if _owner(net, key) not in known]
    if any(_left_over(rest[key]) for key in theirs):
        restore_all(net, before)  # a reset of membranes may leave counters, which have run on
        _reset(net)
        again = snapshot(net)
        rest |= {key: again.get(key, MISSING) for key in theirs}
    else:
        rest |= _by_reset(net, run, images[0], first, before, theirs)
    stale = [key for key in theirs if _left_over(rest[key])]
    if stale:
        run(images[1])
        if not all(map(torch.equal, first, run(images[0]))):
            raise _not_at_rest(net, stale)
        rest = {key: rest[key] for key in keys if key not in theirs}  # its forward resets it
    restore(net, rest)
    return rest


def _by_reset(
    net: nn.Module,
    run: Run,
    images: Tensor,
    first: Sequence[Tensor],
    before: Mapping[Key, Any],
    keys: Sequence[Key],
) -> dict[Key, Any]:
    """What the reset of a network makes of numbers, where it answers otherwise after it.

    An earlier call leaves a counter as it leaves a membrane, and no number shows that it is not
    the one of a network at rest.
    """
    try:
        restore_all(net, before)
        _reset(net)
        again = snapshot(net)
        if not keys or not set(keys) & {*moved(before, again)}:
            return {}
        other = run(images)
    except Exception:  # whatever a method does that bears the name of one that resets
        return {}
    finally:
        restore_all(net, before)
    alike = len(first) == len(other) and all(map(torch.equal, first, other))
    return {} if alike else {key: again.get(key, MISSING) for key in keys}


def _not_at_rest(net: nn.Module, keys: Sequence[Key]) -> InputError:
    names = ", ".join(".".join(key).lstrip(".") for key in keys)
    return InputError(
        f"{type(net).__name__} keeps {names} from an earlier call, and no method such as reset() "
        "that clears it; build it anew, or reset it before it is adapted; what it changes in every "
        "call, as statistics or a power iteration, has to stay as it is in eval()"
    )


def _is_state(net: nn.Module, key: Key, value: Any, known: frozenset[nn.Module]) -> bool:
    """Whether a value looks like what an earlier call left in an attribute."""
    owner = _owner(net, key)
    return (
        owner is not None
        and owner not in known
        and key[1] not in owner._buffers
        and (_left_over(value))
    )


def _owner(net: nn.Module, key: Key) -> nn.Module | None:
    try:
        return net.get_submodule(key[0])
    except AttributeError:  # the network builds that module anew in its calls
        return None


def _left_over(value: Any) -> bool:
    """Whether a value looks like the state of an earlier call: a tensor that is not constant."""
    if isinstance(value, Tensor):
        return value.numel() > 1 and not bool((value == value.flatten()[0]).all())
    if isinstance(value, list | tuple):
        return any(map(_left_over, value))
    if isinstance(value, dict):
        return any(map(_left_over, value.values()))
    return isinstance(value, _Object) and (_left_over(value.attributes) or _left_over(value.items))


def _reset(net: nn.Module) -> None:
    """Calls the methods by which people reset a network, which must not touch its weights."""
    weights = {name: value.detach().clone() for name, value in net.named_parameters()}
    for module in net.modules():
        for name in RESETS:
            method = getattr(module, name, None)
            if callable(method):
                try:
                    method()
                except TypeError:  # it wants arguments
                    continue
    with torch.no_grad():
        for name, value in net.named_parameters():
            if not torch.equal(value, weights[name]):
                value.copy_(weights[name])
