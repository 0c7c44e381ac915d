"""Spikes that a network makes by a comparison, such as `(v > 1).float()`, with a gradient or none.

A gradient that skips the comparison has a form of its own in every code: `hard.detach() +
soft - soft.detach()`, `soft + (hard - soft).detach()`. What they share is a tensor with the values
of the comparison and another gradient, and such a tensor is taken for the spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.exchanged_spikes import Fired, Kind, read_spikes, rounded
from robust_snn.foreign.few_values import (
    are_close,
    has_few_values,
    has_hidden_values,
    is_mask,
    made_of_spikes,
    takes_few_values_only,
)
from robust_snn.foreign.graph_walk import children_of, reaches_others
from robust_snn.foreign.interception import nodes_of
from robust_snn.foreign.spike_recording import running_lines
from robust_snn.foreign.squashed_values import (
    NoOrigin,
    Root,
    Value,
    Values,
    depth_alone,
    depth_of_soft,
    find_root,
    nth_origin,
)
from robust_snn.foreign.staircase import Staircase
from robust_snn.utils.operands import by_position

ABOVE, BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
CASTS = (
    *("float", "double", "half", "bfloat16", "int", "long", "to", "type", "type_as"),
    *("clone", "contiguous"),
)
NEGATIONS = ("invert", "logical_not", "bitwise_not", "neg")
ROUNDINGS = {"round": 0.5, "floor": 1.0, "trunc": 1.0, "ceil": 0.0}  # where they reach one
SUMS = ("add", "radd", "iadd", "sub", "rsub", "isub")
PRODUCTS = ("mul", "rmul", "imul")
SHAPES = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose"),
    *("movedim", "expand", "repeat", "getitem", "select", "stack", "cat", "max_pool2d"),
)
SCALES = (*PRODUCTS, *SUMS, "div", "truediv", "itruediv")  # by a number, as in `1 - spikes`
KEEPING = (*CASTS, *NEGATIONS, *SCALES, *SHAPES)  # make of spikes what has a few values too


class Form(Enum):
    """How a network makes its spikes."""

    COMPARED = "comparison"
    STRAIGHT_THROUGH = "straight-through comparison"
    ROUNDED = "straight-through rounding of something unknown"


class Place(NamedTuple):
    """What makes the spikes of an operation.

    Attributes:
        form: How.
        made: Place of its comparison.
        root: What they are a staircase of, if not of what is compared.
    """

    form: Form
    made: int
    root: Root | None = None


Places = Mapping[int, Place]  # by the place of an operation in the forward pass


class _Comparison:
    """A comparison, kept on the tensors that have its values.

    Args:
        number: Its place in the forward pass.
        compared: What is compared.
        threshold: With what.
        kind: What comes of it.
        fires: What comes of what, if each element follows from one; see `Values`.
    """

    def __init__(
        self, number: int, compared: Tensor, threshold: Any, kind: Kind, fires: Value | None
    ) -> None:
        self.number = number
        self.kind: Kind | Staircase = kind
        self.compared = compared
        self.fires = fires
        self.membrane: Tensor | None = None
        self.spikes: Tensor | None = None
        self.node: Any = None  # of its spikes, if they have no gradient by themselves
        self.line: Any = None  # of code, which made them
        self._threshold = threshold

    def look_at(self, root: Root | None) -> None:
        """Settles which membrane it is a step of."""
        with torch.enable_grad():
            if root is None or self.fires is None:
                self.membrane = self.compared - self._threshold
                return
            self.membrane = nth_origin(self.fires, root.depth).value.tensor - root.edge
            if root.staircase is not None:
                self.kind = root.staircase
            elif self.kind is Kind.ROUNDING:
                self.kind = Kind.STEP

    def root(self, depth: int | None, spikes: Tensor) -> Root | None:
        """What some spikes are a staircase of at an origin; None if that is none of them."""
        if self.fires is None or depth is None:
            return None
        return find_root(self.fires, depth, spikes, self.kind is Kind.CHANCE)

    def staircase(self, spikes: Tensor) -> Staircase | None:
        """The staircase that some values are of the membrane; None if they are none."""
        assert self.membrane is not None
        if self.membrane.shape != spikes.shape:
            return None
        return read_spikes(self.membrane, spikes, self.kind)

    def kept_by(self, mask: Tensor) -> bool:
        """Whether a mask keeps what is above the threshold, as a ReLU does and no reset."""
        assert self.membrane is not None
        return bool(((mask != 0) == (self.membrane >= 0)).float().mean() > 0.5)


class Comparisons(TorchFunctionMode):
    """Finds the spikes that a network makes by comparisons, or exchanges those that were found.

    Args:
        places: What to exchange. None looks for it, and `places()` has it afterwards.
    """

    def __init__(self, places: Places | None = None) -> None:
        super().__init__()
        self._found: dict[int, Place] = {}
        self._places = places
        known = () if places is None else places.values()
        self._wanted = {place.made: place.root for place in known}
        rooted = places is None or any(place.root is not None for place in known)
        self._values = Values() if rooted else None
        self._count = 0
        self._made: dict[int, _Comparison] = {}
        self._roots: dict[int, Root | None] = {}  # of straight-through spikes
        self._hard: list[_Comparison] = []
        self._compared_so_far: list[_Comparison] = []
        self._masks: set[int] = set()
        self._marked: list[ReferenceType[Tensor]] = []

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        for reference in self._marked:  # a network may keep tensors of a pass, and be copied
            if (tensor := reference()) is not None:
                for mark in ("_attached", "_comparison", "_spiky", "_unsure"):
                    tensor.__dict__.pop(mark, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        args, options = by_position(args, kwargs or {})
        self._count += 1
        name = getattr(func, "__name__", "").strip("_")
        if not isinstance(out, Tensor) or not args:
            return out
        if self._values is not None:
            self._values.note(self._count, name, func, args, options, out)
        comparison = self._compared(name, args, out)
        if comparison is None and (name in CASTS or name == "detach"):
            comparison = getattr(args[0], "_comparison", None)
        if name == "detach" and isinstance(args[0], Tensor):
            out._attached = getattr(args[0], "_attached", args[0])  # type: ignore[attr-defined]
            self._marked.append(ref(out))
        if name == "where" and is_mask(args):
            comparison = getattr(args[0], "_comparison", None)
        by_number = name in SCALES and isinstance(args[-1], int | float)
        if by_number or name in NEGATIONS:
            comparison = getattr(args[0], "_comparison", None)
        if comparison is not None:
            out._comparison = comparison  # type: ignore[attr-defined]
            self._marked.append(ref(out))
        spikes = self._look(name, args, out) if self._places is None else self._exchange(out)
        if self._values is not None and spikes is not out:
            self._values.copy(out, spikes)
        return spikes

    def _exchange(self, out: Tensor) -> Tensor:
        """What an operation gives with another gradient, if it was found to make spikes."""
        assert self._places is not None
        place = self._places.get(self._count)
        if place is None:
            return out
        if place.form is Form.ROUNDED:
            return rounded(out)
        made = self._made.get(place.made)
        return out if made is None else _exchanged(out, made)

    def _compared(self, name: str, args: Any, out: Tensor) -> _Comparison | None:
        """What an operation compares, if it does."""
        found = _parts(name, args)
        if found is None:
            return None
        above, threshold, kind = found
        above = getattr(above, "_attached", above)
        if not isinstance(above, Tensor) or not above.requires_grad or above.shape != out.shape:
            return None
        fires = None if self._values is None else self._values.of(out)
        made = _Comparison(self._count, above, threshold, kind, fires)
        if self._places is None or self._count in self._wanted:
            made.look_at(self._wanted.get(self._count))
            self._made[self._count] = made
        if self._places is None:
            self._compared_so_far.append(made)
        if kind is not Kind.ROUNDING:
            return made
        spikes = self._places is None and has_few_values(out)  # other numbers are rounded too
        return made if spikes else None

    def _look(self, name: str, args: Any, out: Tensor) -> Tensor:
        """Notes an operation whose output has the values of a comparison.

        Spikes are exchanged at once: what they reach would have no gradient otherwise.
        """
        exchanged, comparison = out, getattr(out, "_comparison", None)
        if comparison is not None and out.is_floating_point() and comparison.spikes is None:
            comparison.spikes = out.detach().clone()
            self._hard.append(comparison)
            self._found[self._count] = Place(Form.COMPARED, comparison.number)
            exchanged = _exchanged(out, comparison)
            comparison.node, comparison.line = exchanged.grad_fn, tuple(running_lines())
        if name in PRODUCTS and len(args) == 2:
            for one, other in (args[:2], args[1::-1]):
                used = getattr(one, "_comparison", None)
                if used is not None and other is used.compared and used.kept_by(one):
                    self._masks.add(used.number)
        if out.requires_grad:
            parts = [a for a in tree_leaves(args) if isinstance(a, Tensor) and a.requires_grad]
            kept = name in KEEPING and all(map(made_of_spikes, parts))
            out._spiky = kept and has_few_values(out)  # type: ignore[attr-defined]
            self._marked.append(ref(out))
        if name in SUMS and out.requires_grad:
            return self._sum(args, out, exchanged)
        return exchanged

    def _sum(self, args: Any, out: Tensor, exchanged: Tensor) -> Tensor:
        """Notes a sum that gives spikes a gradient which is not theirs."""
        unsure = [a._unsure for a in args if hasattr(a, "_unsure")]  # as `hard + soft` was
        again = bool(unsure) and has_hidden_values(args, out) and has_few_values(out)
        if not again and any(hasattr(a, "_comparison") for a in args):  # as in `0 + spikes`
            return exchanged
        soft = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
        for comparison in reversed(self._hard):
            hard = comparison.spikes
            assert hard is not None
            if hard.shape == out.shape and are_close(hard, out):
                return self._straight_through(out, comparison, soft, unsure)
        if not again and not takes_few_values_only(args, out):
            return exchanged
        fits = [(made, made.staircase(out)) for made in reversed(self._compared_so_far)]
        known = [(made, staircase) for made, staircase in fits if staircase is not None]
        if known:
            comparison, _ = max(known, key=lambda fit: _likeliness(fit[1]))
            comparison.spikes = out.detach()
            spikes = self._straight_through(out, comparison, soft, unsure)
        elif again:
            return exchanged
        else:
            spikes = self._unknown(out)
        spikes._unsure = self._count  # type: ignore[attr-defined]
        self._marked.append(ref(spikes))
        return spikes

    def _straight_through(
        self, out: Tensor, comparison: _Comparison, soft: Sequence[Tensor], instead: Sequence[int]
    ) -> Tensor:
        """Notes spikes of a comparison that have the gradient of a soft function."""
        for place in instead:
            self._found.pop(place, None)
        if comparison.fires is not None:
            try:
                depth = depth_of_soft(comparison.fires, soft)
            except NoOrigin:
                return self._unknown(out)
            root = comparison.root(depth, out)
            if root is None and depth is not None:
                return self._unknown(out)
            comparison.look_at(root)
            self._roots[comparison.number] = root
        self._found[self._count] = Place(Form.STRAIGHT_THROUGH, comparison.number)
        return _exchanged(out, comparison)

    def _unknown(self, out: Tensor) -> Tensor:
        """Notes spikes of a membrane that is not known."""
        self._found[self._count] = Place(Form.ROUNDED, -self._count)
        return rounded(out)

    def places(self) -> dict[int, Place]:
        """What was found: one operation for each comparison, the last that has its values."""
        last = {p.made: place for place, p in self._found.items() if p.made not in self._masks}
        return {place: self._rooted(self._found[place]) for place in last.values()}

    def places_beside(
        self, spikes: Collection[Node], outputs: Sequence[Tensor]
    ) -> dict[int, Place]:
        """What was found in a network that has other spikes with a gradient.

        There, a comparison without one may serve a reset. It is one of spikes where these reach
        more than the membrane that is compared.

        Args:
            spikes: The other spikes.
            outputs: What the network returned.
        """
        children = children_of(nodes_of(outputs))
        ends = {*spikes, *filter(_is_fired, children)}
        places, others = self.places(), set[Any]()
        compared = {p: self._made[f.made] for p, f in places.items() if f.form is Form.COMPARED}
        for made in compared.values():  # a line may be dead in its last step, or silent
            reaches = made.node in children and not has_few_values(made.compared)
            if reaches and reaches_others(made.node, made.compared.grad_fn, ends, children):
                others.add(made.line)
        return {p: f for p, f in places.items() if p not in compared or compared[p].line in others}

    @property
    def has_gradients(self) -> bool:
        """Whether spikes were found that have a gradient by themselves."""
        return any(place.form is not Form.COMPARED for place in self._found.values())

    def _rooted(self, place: Place) -> Place:
        """A place with what its spikes are a staircase of."""
        if place.form is Form.STRAIGHT_THROUGH:
            return place._replace(root=self._roots.get(place.made))
        made = self._made.get(place.made)
        if made is None or made.spikes is None or made.fires is None:
            return place
        return place._replace(root=made.root(depth_alone(made.fires), made.spikes))


def _parts(name: str, args: Any) -> tuple[Any, Any, Kind] | None:
    """What is compared with what, and what comes of it; None if an operation does not compare."""
    if name in (*ABOVE, *BELOW) and len(args) == 2:
        first, second = args
        # what fires is above the threshold; a number does not fire
        swapped = name in BELOW and isinstance(second, Tensor)
        return (second, first, Kind.STEP) if swapped else (first, second, Kind.STEP)
    if name in ("heaviside", "sign", "sgn"):
        return args[0], 0.0, Kind.STEP
    if name in ROUNDINGS:
        return args[0], ROUNDINGS[name], Kind.ROUNDING
    return (args[0], 0.5, Kind.CHANCE) if name == "bernoulli" else None


def _is_fired(node: Node) -> bool:
    return getattr(node, "_forward_cls", None) is Fired


def _exchanged(out: Tensor, made: _Comparison) -> Tensor:
    """Spikes with the same values, as a function of the membrane of their comparison."""
    with torch.enable_grad():
        spikes: Tensor = Fired.apply(made.membrane, out.detach(), made.kind)
    spikes._comparison = made  # type: ignore[attr-defined]
    return spikes


def _likeliness(staircase: Staircase) -> tuple[bool, bool]:
    """What speaks for one of several comparisons as that of some spikes.

    Silent neurons are below any threshold, and above none if they can be below one.
    """
    return staircase.edges == (0.0,), staircase.jumps[0] > 0
