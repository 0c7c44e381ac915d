"""Jumps in a network that no gradient mode reaches: comparisons and roundings that are no spikes.

A mask may choose rows, count, or leave PyTorch for NumPy. Beside a smooth path the gradient that is
missing there shows nowhere, so what such a jump enters is followed through the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.graph_walk import ELEMENTWISE, parents, reaches_others
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
OUTSIDE = ("numpy", "tolist")  # where nothing is seen of what becomes of a tensor


@dataclass(frozen=True, eq=False)
class _End:
    """A jump.

    Attributes:
        path: Of the module in whose forward pass it is.
        where: The operation and its line.
        jumps: What jumps where, as an operation of the graph.
        enters: Operations of the graph that take part of it.
    """

    path: str
    where: str
    jumps: Node
    enters: set[Node]


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
        loose = frozenset[int]().union(*(getattr(value, "_loose", ()) for value in given))
        source = _made_by(given[0])
        if source is not None and name in OUTSIDE:
            self.leaves |= given[0].numel() > 1
        elif source is not None and _jumps(name, args, options, made[0]):
            loose |= {len(self._ends)}
            self._ends.append(_End(self._running(), _place(name), source, set()))
        for value in made if loose else ():
            if value.grad_fn is None:
                self._mark(value, "_loose", loose)
            else:
                for number in loose:
                    self._ends[number].enters.add(value.grad_fn)

    def note_hidden(self, name: str, args: Any) -> None:
        """Learns of an operation inside of `torch.vmap`, which shows nothing of its operands."""
        slopes = (v for v in tree_leaves(args) if isinstance(v, Tensor) and v.is_floating_point())
        if name in (*COMPARED, *ROUNDED, "bernoulli") and next(slopes, None) is not None:
            self._hidden[self._running(), f"{_place(name)}, inside torch.vmap"] = None

    def that_matter(
        self, ends: Collection[Node], children: Mapping[Node, set[Node]]
    ) -> list[tuple[str, str]]:
        """Paths and places of the jumps that do more than to reset a membrane.

        Args:
            ends: Spike functions, where a neuron ends.
            children: What every operation enters, see `graph_walk.children_of`.
        """
        found = dict(self._hidden)
        for end in self._ends:
            alive = {node for node in end.enters if node in children}
            start: Any = end  # it is no operation of the graph
            below = {**children, start: alive}
            tops = _membranes(end.jumps, ends) if alive else ()
            if tops and all(reaches_others(start, top, ends, below) for top in tops):
                found[end.path, end.where] = None
        return [*found]


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


def _membranes(source: Node, ends: Collection[Node]) -> Sequence[Node]:
    """The membranes that something is compared in, also by the spikes that they have made."""
    todo, seen, found = [source], {source}, list[Node]()
    while todo:
        node = todo.pop()
        if node in ends:
            found += parents(node)
        elif ELEMENTWISE.fullmatch(node.name()):
            above = [parent for parent in parents(node) if parent not in seen]
            seen.update(above)
            todo += above
    return found or [source]
