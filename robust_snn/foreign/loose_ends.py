"""Jumps in a network that no gradient mode reaches: comparisons and roundings that are no spikes.

A mask may choose rows, count, or leave PyTorch for NumPy. Beside a smooth path the gradient that is
missing there shows nowhere, so what such a jump enters is followed through the graph. A function
that is smooth and nearly a step, as `u / (u + 1e-12)`, has a gradient that vanishes: a jump too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.few_values import (
    has_few_values,
    has_two_values,
    is_dense,
    made_of_spikes,
)
from robust_snn.foreign.interception import Call
from robust_snn.foreign.masks import ARITHMETIC, COUNTING, RESHAPING
from robust_snn.foreign.onward import Onward
from robust_snn.foreign.spike_recording import line_of_network

COMPARED = (
    *("gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal"),
    *("eq", "ne", "not_equal", "isclose", "bucketize", "searchsorted", "signbit"),
    *("argmax", "argmin"),
)
ROUNDED = (
    *("floor", "ceil", "round", "trunc", "fix", "sign", "sgn", "heaviside"),
    *("floordiv", "floor_divide", "remainder", "mod", "fmod", "frac"),
    *("hardshrink", "poisson", "fake_quantize_per_tensor_affine"),
    "fake_quantize_per_channel_affine",
)
FIXED = ("detach", "isfinite", "isnan", "isinf", "isreal")  # beside those that end in `_like`
FORMED = ("view_as", "reshape_as", "expand_as", "type_as", "to")
READING = ("gather", "take_along_dim")  # what is at such a place has a gradient
WRITING = ("copy", "set", "setitem")
CHOICES = ("softmax", "log_softmax")  # of more than two, attention and readouts may be certain
UNREACHED = "it has no gradient, and becomes no spikes that could have one"
STEEP = "its gradient vanishes: it is nearly a step, and no spikes that could have another one"
DETACHED = "its spikes are detached on their way to others"
SPARSE = "a sparse tensor passes no gradient on where it is zero"
FEWEST = 32  # values of a function by which it is judged
OUTSIDE = ("numpy", "tolist")  # where nothing is seen of what becomes of a tensor
JUMPED = ("_loose", "_comparison", "_numbers")  # marks of what has jumped already
SINGLY = ("item", "bool", "float", "int", "index")  # the same, number by number


@dataclass(frozen=True, eq=False)
class _End:
    """A jump.

    Attributes:
        path: Of the module in whose forward pass it is.
        where: The operation and its line.
        jumps: What jumps where, as an operation of the graph.
        enters: Operations of the graph that take part of it.
        why: What is wrong with it.
    """

    path: str
    where: str
    jumps: Node
    enters: set[Node]
    why: str


class LooseEnds:
    """Follows jumps through what a network computes without a gradient.

    Args:
        mark: Keeps a value on a tensor.
        running: Path of the module that is running.
    """

    def __init__(
        self, mark: Callable[[Tensor, str, Any], None], running: Callable[[], str]
    ) -> None:
        self.leaves = False  # for NumPy, with what depends on the image
        self.singly = False  # number by number
        self._mark = mark
        self._running = running
        self._ends: list[_End] = []
        self._hidden: dict[tuple[str, str], None] = {}
        self._left: list[tuple[ReferenceType[Tensor], frozenset[int]]] = []
        self._numbers = 0

    def note(self, name: str, args: Any, options: Any, out: Any) -> None:
        """Learns of an operation."""
        given = [*filter(is_dense, tree_leaves(args))]
        if not given:
            return
        if name.startswith("to_sparse") and out.grad_fn is not None:
            self._ends[self._end(name, out.grad_fn, SPARSE)].enters.add(out.grad_fn)
        made = [*filter(is_dense, tree_leaves(out))]
        source = next((node for value in given if (node := _made_by(value)) is not None), None)
        if not made and (source is not None or any(hasattr(given[0], mark) for mark in JUMPED)):
            self._leave(name, given[0])
        made = made or given[:1]
        takes = given[:1] if name in READING and made[0].requires_grad else given
        before = frozenset[int]().union(*map(_loose_in, takes))
        jumped = [] if source is None else _jumps(name, args, options, given, made)
        if source is not None and jumped:
            self._enter(name, jumped, before | {self._end(name, source, UNREACHED)})
        elif source is not None and _acts_as_step(name, args, options, given, made[0]):
            before |= {self._end(f"the step-like {name}", source, STEEP)}
        elif not before:
            lost = _lost(name, given, made[0])
            before |= {self._end(name, spikes, DETACHED) for spikes in lost}
        if before:
            self._enter(name, made, before)
        if source is not None and not _only_like(name):  # of what is detached first
            for value in made:
                if value.grad_fn is None:
                    self._mark(value, "_source", source)
        if made[0].requires_grad and made[0].is_floating_point():
            self._mark(made[0], "_varied", not has_few_values(made[0]))

    def note_call(self, call: Call, out: Any) -> None:
        """Learns of a call of an autograd function, which shows none of its operations.

        Its output is the values of spikes alone where nothing has a gradient, as under `no_grad`.
        """
        given, made = [*filter(is_dense, call.arguments)], [*filter(is_dense, tree_leaves(out))]
        source = next((node for value in given if (node := _made_by(value)) is not None), None)
        loose = frozenset[int]().union(*map(_loose_in, given))
        attached = any(value.requires_grad for value in given)  # so that its output is, as a rule
        if source is not None and any(map(has_few_values, made)):
            fired = self._end(call.function.__name__, source, UNREACHED)
            for value in made:
                self._mark(value, "_fired", frozenset((fired,)))
        for value in made:
            if loose and not attached:
                self._mark(value, "_loose", loose)
            if source is not None:
                self._mark(value, "_source", source)

    def _leave(self, name: str, value: Tensor) -> None:
        """Learns that a tensor leaves PyTorch."""
        self._numbers += name in SINGLY
        self.singly |= self._numbers >= FEWEST  # fewer say whether something is in range
        self.leaves |= self.singly or (name in OUTSIDE and value.numel() > 1)

    def _enter(self, name: str, made: Sequence[Tensor], loose: frozenset[int]) -> None:
        """Learns that jumps have become a part of some tensors."""
        for value in made:
            inside = name in WRITING or name in ROUNDED
            written = getattr(value, "_attached", value) if inside else value
            if value.grad_fn is None:
                self._mark(value, "_loose", loose)
            if written.grad_fn is not None:
                for number in loose:
                    self._ends[number].enters.add(written.grad_fn)

    def _end(self, name: str, source: Node, why: str) -> int:
        """The number of a new jump."""
        self._ends.append(_End(self._running(), place_of(name), source, set(), why))
        return len(self._ends) - 1

    def keep(self, value: Tensor) -> None:
        """Learns that a tensor has outlived the pass, as what the network returns does."""
        if loose := getattr(value, "_loose", None):
            self._left.append((ref(value), loose))

    def note_hidden(self, name: str, args: Any) -> None:
        """Learns of an operation inside of `torch.vmap`, which shows nothing of its operands."""
        slopes = (v for v in tree_leaves(args) if isinstance(v, Tensor) and v.is_floating_point())
        if name in (*COMPARED, *ROUNDED, "bernoulli") and next(slopes, None) is not None:
            self._hidden[self._running(), f"{place_of(name)}, inside torch.vmap"] = None

    def that_matter(self, onward: Onward, outputs: Sequence[Tensor]) -> list[tuple[str, str, str]]:
        """Paths and places of the jumps that do more than to reset a membrane, and what is wrong.

        Args:
            onward: Follows what they enter.
            outputs: What the network returned.
        """
        found = dict.fromkeys(self._hidden, UNREACHED)
        answers = {n for value, loose in self._left for n in loose if _is_one_of(value(), outputs)}
        for number, end in enumerate(self._ends):
            entered = {node for node in end.enters if node in onward.children}
            spikes_of = onward.fired_by(end.jumps) if entered else []
            if number in answers:
                found[end.path, end.where] = end.why
            if not entered or (end.why is DETACHED and not spikes_of):
                continue
            if onward.reaches_others(entered, [end.jumps, *spikes_of]):
                found[end.path, end.where] = end.why
        return [(*place, why) for place, why in found.items()]


class Elsewhere(TorchFunctionMode):
    """Gives other values to what leaves PyTorch, so that a change of the output shows its part.

    Args:
        singly: Whether single numbers get others too.
    """

    def __init__(self, singly: bool) -> None:
        super().__init__()
        self._singly = singly

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in OUTSIDE and isinstance(args[0], Tensor) and args[0].numel() > 1:
            args = (_other(args[0]), *args[1:])
        out = func(*args, **(kwargs or {}))
        if self._singly and name in SINGLY and not isinstance(out, Tensor):
            return not out if isinstance(out, bool) else -out
        return out


@torch.no_grad()
def _other(value: Tensor) -> Tensor:
    return ~value if value.dtype is torch.bool else -value.detach()


def _loose_in(value: Tensor) -> frozenset[int]:
    """Jumps that a tensor is a part of without a gradient."""
    loose: frozenset[int] = getattr(value, "_loose", frozenset())
    return loose | getattr(value, "_fired", frozenset()) if value.grad_fn is None else loose


def _is_one_of(value: Tensor | None, others: Sequence[Tensor]) -> bool:
    return any(value is other for other in others)


def place_of(name: str) -> str:
    """An operation and the line of the network that runs it, for people."""
    path, line, _ = line_of_network()
    return f"{name} in line {line} of {path.rpartition('/')[2]}"


def _made_by(value: Tensor) -> Node | None:
    """What made a tensor, or what it is the values of."""
    value = getattr(value, "_attached", value)
    if not (value.is_floating_point() or value.is_complex()):
        return None
    return value.grad_fn or getattr(value, "_source", None)


def _jumps(
    name: str, args: Any, options: Any, given: Sequence[Tensor], made: Sequence[Tensor]
) -> Sequence[Tensor]:
    """The outputs of an operation that jump where its operands pass something."""
    if name in FIXED or name.endswith("_as") or _only_like(name):
        return ()
    rounds = name == "div" and options.get("rounding_mode") is not None
    fills = name == "threshold" and args[1] != args[2]
    if rounds or fills or name in (*COMPARED, *ROUNDED):
        return made
    return [value for value in made if _is_without_gradient(given, value)]


def _only_like(name: str) -> bool:
    """Whether an operation takes the shape of a tensor alone."""
    return name.endswith("_like") or name.startswith("new_")


def _is_without_gradient(given: Sequence[Tensor], made: Tensor) -> bool:
    """Whether an operation has no derivative, as one that gives whole numbers."""
    if not (made.is_floating_point() or made.is_complex()):
        return True
    needed = any(value.requires_grad for value in given)
    return torch.is_grad_enabled() and needed and not made.requires_grad


def _acts_as_step(name: str, args: Any, options: Any, given: Sequence[Tensor], out: Tensor) -> bool:
    """Whether a smooth function of many values gives two, so that its gradient vanishes."""
    if not (out.requires_grad and out.is_floating_point()) or out.numel() < FEWEST:
        return False
    if name in CHOICES:
        dim = args[1] if len(args) > 1 else options.get("dim")
        if not isinstance(dim, int) or out.shape[dim] != 2:
            return False
    valued = given[:1] if name in FORMED else given  # others give a shape or a type alone
    parts = [v for v in valued if v.requires_grad and (v.shape == out.shape or name in COUNTING)]
    return bool(parts) and has_two_values(out) and all(_is_varied(v, out) for v in parts)


def _is_varied(value: Tensor, out: Tensor) -> bool:
    """Whether an operand has many values, or had before an operation in its place."""
    if value is out:
        return getattr(value, "_varied", False)
    return not has_few_values(torch.view_as_real(value) if value.is_complex() else value)


def _lost(name: str, given: Sequence[Tensor], out: Tensor) -> list[Node]:
    """What made the spikes whose gradient an operation leaves out."""
    hidden = name == "set" or not torch.is_grad_enabled() or hasattr(given[0], "_attached")
    written = name in WRITING and hidden  # as by way of its `data`
    without = not torch.is_grad_enabled() and name in (*ARITHMETIC, *RESHAPING)
    if not written and (out.requires_grad or not (without or name == "detach")):
        return []
    sources = given[1:] if written else given
    return [v.grad_fn for v in sources if v.grad_fn is not None and made_of_spikes(v)]
