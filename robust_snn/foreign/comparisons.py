"""Spikes that a network makes by a comparison, such as `(v > 1).float()`, with a gradient or none.

A gradient that skips the comparison has a form of its own in every code: `hard.detach() +
soft - soft.detach()`, `soft + (hard - soft).detach()`. What they share is a tensor with the values
of the comparison and another gradient, and such a tensor is taken for the spikes.
"""

from __future__ import annotations

import math
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
    made_of_spikes,
    takes_few_values_only,
)
from robust_snn.foreign.graph_walk import children_of, reaches_others
from robust_snn.foreign.interception import nodes_of
from robust_snn.foreign.loose_ends import LooseEnds
from robust_snn.foreign.masks import (
    ARITHMETIC,
    CASTS,
    NEGATIONS,
    PRODUCTS,
    RESHAPING,
    SUMS,
    Jumped,
    Masks,
    is_gate,
)
from robust_snn.foreign.spike_recording import line_of_network, running_lines
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
ROUNDINGS = {"round": 0.5, "floor": 1.0, "trunc": 1.0, "ceil": 0.0}  # where they reach one
DIVISIONS = ("floordiv", "floor_divide")
SHAPES = (*RESHAPING, "stack", "cat", "max_pool2d")
SCALES = ARITHMETIC  # by a number, as in `1 - spikes`
KEEPING = (*CASTS, *NEGATIONS, *SCALES, *SHAPES)  # make of spikes what has a few values too


DATA = Tensor.data.__get__  # type: ignore[attr-defined]


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
    made: float
    root: Root | None = None


MARKS = ("_attached", "_comparison", "_loose", "_numbers", "_of_mask", "_place", "_spiky", "_unsure")
BETWEEN = 1 / 1024  # of one operation of the network and the next
Places = Mapping[float, Place]  # by the place of an operation in the forward pass


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
        self, number: float, compared: Tensor, threshold: Any, kind: Kind, fires: Value | None
    ) -> None:
        self.number = number
        self.kind: Kind | Staircase = kind
        self.compared = compared
        self.fires = fires
        self.of_spikes = _is_spikes(compared)
        self.where = line_of_network()
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
        running: Path of the module that is running.
    """

    def __init__(
        self, places: Places | None = None, running: Callable[[], str] = lambda: ""
    ) -> None:
        super().__init__()
        self._loose = LooseEnds(self._mark, running) if places is None else None
        self._found: dict[float, Place] = {}
        self._places = places
        known = () if places is None else places.values()
        self._wanted = {place.made: place.root for place in known}
        rooted = places is None or any(place.root is not None for place in known)
        self._values = Values() if rooted else None
        self._count = 0.0  # of operations; casts that the network leaves out are between them
        self._made: dict[float, _Comparison] = {}
        self._roots: dict[float, Root | None] = {}  # of straight-through spikes
        self._hard: list[_Comparison] = []
        self._compared_so_far: list[_Comparison] = []
        self._gates: set[float] = set()  # places whose mask is no spike
        self._masks = Masks(self._run, self._cast, self._weighed, self._chosen)
        self._marked: list[ReferenceType[Tensor]] = []
        self._last: Any = None  # what the last operation gave by itself

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        for reference in self._marked:  # a network may keep tensors of a pass, and be copied
            if (tensor := reference()) is not None:
                for mark in MARKS:
                    tensor.__dict__.pop(mark, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given, options = by_position(args, kwargs or {})
        name = "detach" if func == DATA else getattr(func, "__name__", "").strip("_")
        numbers = self._masks.made_of(name, func, given)  # before it changes them

        def alone() -> Any:
            return self._alone(func, name, given, options, lambda: func(*args, **(kwargs or {})))

        out = self._masks.instead(name, func, given, alone)
        if out is NotImplemented:
            out = alone()
            if self._loose is not None and out is self._last:
                self._loose.note(name, given, options, out)
        elif isinstance(out, Tensor):
            self._mark(out, "_of_mask", True)
            if self._loose is not None and not out.is_floating_point():
                self._loose.note(name, given, options, out)
        if numbers is not None:
            self._mark(out, "_numbers", numbers)
        return out

    def _alone(
        self,
        func: Callable[..., Any],
        name: str,
        args: Any,
        options: Any,
        run: Callable[[], Any],
        number: float | None = None,
    ) -> Any:
        """An operation as it is, or with spikes in the place of what it gives."""
        out = self._last = run()
        self._count = math.floor(self._count) + 1.0 if number is None else number
        if not isinstance(out, Tensor) or not args:
            return out
        if self._values is not None:
            self._values.note(self._count, name, func, args, options, out, uses=number is None)
        comparison = self._compared(name, args, options, out)
        if comparison is None and (name in CASTS or name == "detach"):
            comparison = getattr(args[0], "_comparison", None)
            if hasattr(args[0], "_of_mask"):
                self._mark(out, "_of_mask", True)
        if name == "detach" and isinstance(args[0], Tensor):
            self._mark(out, "_attached", getattr(args[0], "_attached", args[0]))
        by_number = name in SCALES and isinstance(args[-1], int | float)
        if (by_number or name in NEGATIONS) and not _is_whole(args[0]):
            comparison = getattr(args[0], "_comparison", None)
        if comparison is not None:
            self._mark(out, "_comparison", comparison)
        spikes = self._look(name, args, out) if self._places is None else self._exchange(out)
        if self._values is not None and spikes is not out:
            self._values.copy(out, spikes)
        return spikes

    def _mark(self, tensor: Tensor, mark: str, value: Any) -> None:
        setattr(tensor, mark, value)
        self._marked.append(ref(tensor))

    def _cast(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        def run() -> Tensor:
            return mask.to(dtype)

        between = self._count + BETWEEN
        out: Tensor = self._alone(Tensor.to, "to", (mask, dtype), {}, run, between)
        return out

    def _run(self, func: Callable[..., Any], *args: Any) -> Any:
        return self.__torch_function__(func, (), args)

    def _weighed(self, mask: Tensor, dtype: torch.dtype, jump: Any) -> Tensor:
        """A mask as numbers, with a gradient unless what it changes has no jump."""
        known = {*self._found}
        spikes = self._masks.numbers(mask, dtype)
        if self._places is None:
            added = {*self._found} - known
            made = [self._made[self._found[place].made].membrane for place in added]
            if is_gate(jump, [membrane for membrane in made if membrane is not None]):
                self._gates |= added
                return spikes.detach()
        return spikes

    def _chosen(self, out: Tensor, mask: Tensor, jump: Any) -> Tensor:
        """What a mask has chosen, with a gradient of the mask if that is one of spikes."""
        spikes = self._weighed(mask, out.dtype, jump)
        chosen: Tensor = Jumped.apply(out, spikes, jump) if spikes.requires_grad else out
        if self._values is not None:
            self._values.copy(out, chosen)
        return chosen

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

    def _compared(self, name: str, args: Any, options: Any, out: Tensor) -> _Comparison | None:
        """What an operation compares, if it does."""
        found = _parts(name, args, options, out)
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
        known = has_few_values(out) if self._places is None else self._count in self._wanted
        return made if known else None  # other numbers are rounded too

    def _look(self, name: str, args: Any, out: Tensor) -> Tensor:
        """Notes an operation whose output has the values of a comparison.

        Spikes are exchanged at once: what they reach would have no gradient otherwise.
        """
        exchanged, comparison = out, getattr(out, "_comparison", None)
        here = comparison is not None and comparison.number == self._count
        if comparison is not None and out.is_floating_point() and (here or _is_whole(args[0])):
            if comparison.spikes is None:
                comparison.spikes = out.detach().clone()
                self._hard.append(comparison)
            self._found[self._count] = Place(Form.COMPARED, comparison.number)
            exchanged = _exchanged(out, comparison)
            self._mark(exchanged, "_place", self._count)
            comparison.node, comparison.line = exchanged.grad_fn, tuple(running_lines())
        if name in PRODUCTS and len(args) == 2:
            for one, other in (args[:2], args[1::-1]):
                used = getattr(one, "_comparison", None)
                if used is None or used.membrane is None or not used.kept_by(one):
                    continue
                if is_gate(other, [used.membrane]):
                    self._gates.add(getattr(one, "_place", 0))
        if out.requires_grad:
            parts = [a for a in tree_leaves(args) if isinstance(a, Tensor) and a.requires_grad]
            kept = name in KEEPING and all(map(made_of_spikes, parts))
            self._mark(out, "_spiky", kept and has_few_values(out))
        if name in SUMS and out.requires_grad:
            return self._sum(args, out, exchanged)
        return exchanged

    def _sum(self, args: Any, out: Tensor, exchanged: Tensor) -> Tensor:
        """Notes a sum that gives spikes a gradient which is not theirs."""
        unsure = [a._unsure for a in args if hasattr(a, "_unsure")]  # as `hard + soft` was
        again = bool(unsure) and has_hidden_values(args, out) and has_few_values(out)
        spikes_alone = (hasattr(a, "_comparison") or hasattr(a, "_of_mask") for a in args)
        if not again and any(spikes_alone):  # as in `0 + spikes`
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
        self._mark(spikes, "_unsure", self._count)
        return spikes

    def _straight_through(
        self, out: Tensor, comparison: _Comparison, soft: Sequence[Tensor], instead: Sequence[float]
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

    def places(self) -> dict[float, Place]:
        """What was found: of a comparison whose spikes have a gradient, the last operation."""
        found = {place: p for place, p in self._found.items() if place not in self._gates}
        last = {p.made: place for place, p in found.items() if p.form is not Form.COMPARED}
        kept = {at: p for at, p in found.items() if last.get(p.made, at) == at}
        return {place: self._rooted(p) for place, p in kept.items()}

    def places_beside(
        self, spikes: Collection[Node], outputs: Sequence[Tensor]
    ) -> dict[float, Place]:
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

    def loose_ends(self, spikes: Collection[Node], outputs: Sequence[Tensor]) -> list[tuple[str, str]]:
        """Paths and places of jumps that nothing reaches; see `places_beside`."""
        children = children_of(nodes_of(outputs))
        ends = {*spikes, *filter(_is_fired, children)}
        return [] if self._loose is None else self._loose.that_matter(ends, children)

    @property
    def leaves(self) -> bool:
        """Whether something that depends on the image leaves PyTorch."""
        return self._loose is not None and self._loose.leaves

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


def _parts(name: str, args: Any, options: Any, out: Tensor) -> tuple[Any, Any, Kind] | None:
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
    rounding = "floor" if name in DIVISIONS else options.get("rounding_mode")
    if rounding is not None and len(args) == 2 and not _is_whole(args[0]):
        return args[0] / args[1], 1.0, Kind.ROUNDING
    if name in CASTS and _is_whole(out) and out.dtype is not torch.bool and not _is_whole(args[0]):
        return args[0], 1.0, Kind.ROUNDING
    return (args[0], 0.5, Kind.CHANCE) if name == "bernoulli" else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_floating_point()


def _is_spikes(value: Tensor) -> bool:
    """Whether a tensor with a gradient is one of spikes, by what made it."""
    return hasattr(value, "_comparison") or hasattr(value.grad_fn, "_forward_cls")


def _is_fired(node: Node) -> bool:
    return getattr(node, "_forward_cls", None) is Fired


def _exchanged(out: Tensor, made: _Comparison) -> Tensor:
    """Spikes with the same values, as a function of the membrane of their comparison."""
    with torch.enable_grad():
        spikes: Tensor = Fired.apply(made.membrane, out.detach(), made.kind, made.where)
    spikes._comparison = made  # type: ignore[attr-defined]
    return spikes


def _likeliness(staircase: Staircase) -> tuple[bool, bool]:
    """What speaks for one of several comparisons as that of some spikes.

    Silent neurons are below any threshold, and above none if they can be below one.
    """
    return staircase.edges == (0.0,), staircase.jumps[0] > 0
