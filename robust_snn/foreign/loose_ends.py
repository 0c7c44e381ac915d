"""Jumps in a network that no gradient mode reaches: comparisons and roundings that are no spikes.

A mask may choose rows, count, or leave PyTorch for NumPy. Beside a smooth path the gradient that is
missing there shows nowhere, so what such a jump enters is followed through the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.few_values import has_few_values, made_of_spikes
from robust_snn.foreign.masks import ARITHMETIC, RESHAPING
from robust_snn.foreign.onward import Onward
from robust_snn.foreign.spike_recording import line_of_network

COMPARED = (
    *("gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal"),
    *("eq", "ne", "not_equal", "isclose", "bucketize", "searchsorted", "signbit"),
    *("argmax", "argmin"),
)
CASTS = ("int", "long", "short", "char", "byte", "bool", "to", "type")
ROUNDED = (
    *("floor", "ceil", "round", "trunc", "fix", "sign", "sgn", "heaviside"),
    *("floordiv", "floor_divide", "remainder", "mod", "fmod", "frac"),
    "hardshrink",
)
CHOOSING = ("topk", "sort", "argsort", "max", "min")  # whose places are numbers without a gradient
READING = ("gather", "take_along_dim")  # what is at such a place has a gradient
WRITING = ("copy", "setitem")
SOFT = ("sigmoid", "tanh", "div", "truediv", "erf", "pow", "exp")  # softmax is attention or readout
UNREACHED = "it has no gradient, and becomes no spikes that could have one"
DETACHED = "its spikes are detached on their way to others"
FEWEST = 32  # values of a function by which it is judged
OUTSIDE = ("numpy", "tolist")  # where nothing is seen of what becomes of a tensor


@dataclass(frozen=True, eq=False)
class _End:
    """A jump.

    Attributes:
        path: Of the module in whose forward pass it is.
        where: The operation and its line.
        jumps: What jumps where, as an operation of the graph.
        enters: Operations of the graph that take part of it.
        detached: Whether it is spikes without their gradient.
    """

    path: str
    where: str
    jumps: Node
    enters: set[Node]
    detached: bool


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
        self._mark = mark
        self._running = running
        self._ends: list[_End] = []
        self._hidden: dict[tuple[str, str], None] = {}

    def note(self, name: str, args: Any, options: Any, out: Any) -> None:
        """Learns of an operation."""
        given = [value for value in tree_leaves(args) if isinstance(value, Tensor)]
        if not given:
            return
        made = [value for value in tree_leaves(out) if isinstance(value, Tensor)] or given[:1]
        takes = given[:1] if name in READING else given
        loose = frozenset[int]().union(*(getattr(value, "_loose", ()) for value in takes))
        source = _made_by(given[0])
        if source is not None and name in OUTSIDE:
            self.leaves |= given[0].numel() > 1
        elif source is not None and name in CHOOSING:
            made = [value for value in made if not value.is_floating_point()]
            loose |= {self._end(name, source)} if made else set()
        elif source is not None and _jumps(name, args, options, made[0]):
            loose |= {self._end(name, source)}
        elif source is not None and name in SOFT and _acts_as_step(given[0], made[0]):
            loose |= {self._end(f"the step-like {name}", source)}
        elif not loose:
            loose |= {
                self._end(name, spikes, detached=True) for spikes in _lost(name, given, made[0])
            }
        for value in made if loose else ():
            written = getattr(value, "_attached", value) if name in WRITING else value
            if value.grad_fn is None:
                self._mark(value, "_loose", loose)
            if written.grad_fn is not None:
                for number in loose:
                    self._ends[number].enters.add(written.grad_fn)

    def _end(self, name: str, source: Node, detached: bool = False) -> int:
        """The number of a new jump."""
        self._ends.append(_End(self._running(), _place(name), source, set(), detached))
        return len(self._ends) - 1

    def note_hidden(self, name: str, args: Any) -> None:
        """Learns of an operation inside of `torch.vmap`, which shows nothing of its operands."""
        slopes = (v for v in tree_leaves(args) if isinstance(v, Tensor) and v.is_floating_point())
        if name in (*COMPARED, *ROUNDED, "bernoulli") and next(slopes, None) is not None:
            self._hidden[self._running(), f"{_place(name)}, inside torch.vmap"] = None

    def that_matter(self, onward: Onward) -> list[tuple[str, str, str]]:
        """Paths and places of the jumps that do more than to reset a membrane, and what is wrong.

        Args:
            onward: Follows what they enter.
        """
        found = dict.fromkeys(self._hidden, UNREACHED)
        for end in self._ends:
            entered = {node for node in end.enters if node in onward.children}
            spikes_of = onward.fired_by(end.jumps) if entered else []
            if not entered or (end.detached and not spikes_of):
                continue
            if onward.reaches_others(entered, [end.jumps, *spikes_of]):
                found[end.path, end.where] = DETACHED if end.detached else UNREACHED
        return [(*place, why) for place, why in found.items()]


class Elsewhere(TorchFunctionMode):
    """Gives other values to what leaves PyTorch, so that a change of the output shows its part."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in OUTSIDE and isinstance(args[0], Tensor) and args[0].numel() > 1:
            with torch.no_grad():
                args = (-args[0].detach() if args[0].is_floating_point() else args[0], *args[1:])
        return func(*args, **(kwargs or {}))


def _place(name: str) -> str:
    """An operation and the line of the network that runs it, for people."""
    path, line, _ = line_of_network()
    return f"{name} in line {line} of {path.rpartition('/')[2]}"


def _made_by(value: Tensor) -> Node | None:
    """What made a tensor, or what it is the values of."""
    value = getattr(value, "_attached", value)
    return value.grad_fn if value.is_floating_point() else None


def _jumps(name: str, args: Any, options: Any, out: Tensor) -> bool:
    if name in CASTS:
        return not out.is_floating_point()
    if name == "threshold":
        return args[1] != args[2]
    rounds = name == "div" and options.get("rounding_mode") is not None
    return name in (*COMPARED, *ROUNDED) or rounds


def _acts_as_step(value: Tensor, out: Tensor) -> bool:
    """Whether a smooth function of many values gives two, so that its gradient vanishes."""
    if not out.requires_grad or value.shape != out.shape or out.numel() < FEWEST:
        return False
    levels = out.detach().mul(1e4).round().unique()
    return len(levels) == 2 and not has_few_values(value)


def _lost(name: str, given: Sequence[Tensor], out: Tensor) -> list[Node]:
    """What made the spikes whose gradient an operation leaves out."""
    written = name in WRITING and hasattr(given[0], "_attached")  # by way of its `data`
    without = not torch.is_grad_enabled() and name in (*ARITHMETIC, *RESHAPING)
    if not written and (out.requires_grad or not (without or name == "detach")):
        return []
    sources = given[1:] if written else given
    return [v.grad_fn for v in sources if v.grad_fn is not None and made_of_spikes(v)]
