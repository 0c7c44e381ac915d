"""One comparison of a network's forward pass: what is compared, and which spikes follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node

from robust_snn.foreign.exchanged_spikes import Fired, Kind, read_spikes
from robust_snn.foreign.few_values import (
    are_close,
    has_few_values,
    is_constant,
    made_of_spikes,
)
from robust_snn.foreign.masks import ARITHMETIC, CASTS, NEGATIONS, RESHAPING
from robust_snn.foreign.spike_recording import line_of_network
from robust_snn.foreign.squashed_values import Root, Value, find_root, nth_origin
from robust_snn.foreign.staircase import Staircase

ABOVE, BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
ROUNDINGS = {"round": 0.5, "floor": 1.0, "trunc": 1.0, "ceil": 0.0}  # where they reach one
DIVISIONS = ("floordiv", "floor_divide")
BENDING = ("relu", "clamp", "clamp_min", "clamp_max", "clip", "abs", "square", "pow", "hardtanh")
LIMITING = ("minimum", "maximum", "fmin", "fmax", "min", "max")  # with a number, as `clamp` does
POOLS = tuple(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3))
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")  # in eval() none
SHAPES = (*RESHAPING, "stack", "cat", *POOLS, *DROPOUTS)
SCALES = ARITHMETIC  # by a number, as in `1 - spikes`
KEEPING = (*CASTS, *NEGATIONS, *SCALES, *SHAPES)  # make of spikes what has a few values too


class Form(Enum):
    """How a network makes its spikes."""

    COMPARED = "comparison"
    STRAIGHT_THROUGH = "straight-through comparison"
    ROUNDED = "straight-through rounding of something unknown"


class Side(Enum):
    """On which side of a threshold spikes are one."""

    ABOVE = "above"
    BELOW = "below, as where something fires by `-v < -1`"
    SILENT = "below, where they mean that nothing fires, as in `1 - (v < 1).float()`"


class Place(NamedTuple):
    """What makes the spikes of an operation.

    Attributes:
        form: How.
        made: Place of its comparison.
        root: What they are a staircase of, if not of what is compared.
        side: On which side of the threshold they are one.
    """

    form: Form
    made: float
    root: Root | None = None
    side: Side = Side.ABOVE


Places = Mapping[float, Place]  # by the place of an operation in the forward pass


class Comparison:
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
        self.of_few_values = False  # as far as was looked
        self.made_of = compared.grad_fn  # a view of what is written to later has another then
        self.where = line_of_network()
        self.membrane: Tensor | None = None
        self.spikes: Tensor | None = None
        self._threshold = threshold

    def look_for_few_values(self) -> None:
        """Notes whether what is compared is made of the spikes of one call alone.

        A membrane is made of those of several steps, and a picture in few greys of none.
        """
        self.of_few_values = made_of_spikes(self.compared) and len(calls_behind(self.compared)) == 1

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

    def gives(self, spikes: Tensor) -> bool:
        """Whether some values are its spikes."""
        known = self.spikes
        return known is not None and known.shape == spikes.shape and are_close(known, spikes)

    def falls(self, spikes: Tensor) -> bool:
        """Whether some values are one below the threshold and zero above, as those of `v <= 1`."""
        found = self.staircase(spikes) if isinstance(self.kind, Kind) else None
        return found is not None and found.levels == (1.0, 0.0)

    def kept_by(self, mask: Tensor) -> bool:
        """Whether a mask keeps what is above the threshold, as a ReLU does and no reset."""
        assert self.membrane is not None
        return bool(((mask != 0) == (self.membrane >= 0)).float().mean() > 0.5)


def parts_of(name: str, args: Any, options: Any, out: Tensor) -> tuple[Any, Any, Kind] | None:
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
    if rounding is not None and len(args) == 2 and not is_whole(args[0]):
        return args[0] / args[1], 1.0, Kind.ROUNDING
    if name in CASTS and is_whole(out) and out.dtype is not torch.bool and not is_whole(args[0]):
        return args[0], 1.0, Kind.ROUNDING
    return (args[0], 0.5, Kind.CHANCE) if name == "bernoulli" else None


def is_whole(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_floating_point()


def _is_spikes(value: Tensor) -> bool:
    """Whether a tensor with a gradient is one of spikes, by what made it."""
    return hasattr(value, "_comparison") or hasattr(value.grad_fn, "_forward_cls")


def calls_behind(value: Tensor) -> set[Node]:
    """The calls of autograd functions that a value is made of, without what is behind these.

    A tensor in which several are written down counts as one, since a step is read from it.
    """
    seen, calls = set[Any](), set[Node]()
    todo = [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "_forward_cls") or node.name().endswith("CopySlices"):
            calls.add(node)
        else:
            todo += [parent for parent, _ in node.next_functions]
    return calls


def fired(out: Tensor, made: Comparison, side: Side = Side.ABOVE) -> Tensor:
    """Spikes with the same values, as a function of the membrane of their comparison."""
    with torch.enable_grad():
        assert made.membrane is not None
        membrane = -made.membrane if side is Side.BELOW else made.membrane
        if side is Side.SILENT:
            spikes: Tensor = 1 - Fired.apply(membrane, 1 - out.detach(), made.kind, made.where)
        else:
            spikes = Fired.apply(membrane, out.detach(), made.kind, made.where)
    spikes._comparison = made  # type: ignore[attr-defined]
    return spikes


def with_gradient(value: Any) -> Any:
    """A value, or what has its numbers and a gradient."""
    return getattr(value, "_attached", getattr(value, "_slope", value))


def chooses_spikes(args: Sequence[Any], out: Tensor) -> Comparison | None:
    """The comparison by which `where` makes spikes of two soft values, which are their gradient."""
    made: Comparison | None = getattr(args[0], "_comparison", None)
    if made is None or made.of_few_values or made.staircase(out) is None:
        return None
    return made if all(has_few_values(v) for v in args[1:] if isinstance(v, Tensor)) else None


def bent(name: str, args: Sequence[Any]) -> Any:
    """What an operation makes of spikes others of that are a function of them alone, if it does."""
    if name in BENDING:
        return args[0]
    if name not in LIMITING or len(args) != 2 or not isinstance(args[1], Tensor):
        return None
    for value, limit in (args, args[::-1]):
        if not limit.requires_grad and is_constant(limit) and hasattr(value, "_comparison"):
            return value
    return None


def likeliness(staircase: Staircase) -> tuple[bool, bool]:
    """What speaks for one of several comparisons as that of some spikes.

    Silent neurons are below any threshold, and above none if they can be below one.
    """
    return staircase.edges == (0.0,), staircase.jumps[0] > 0
