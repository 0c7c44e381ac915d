"""Spikes that a network makes by a comparison, such as `(v > 1).float()`, with a gradient or none.

A gradient that skips the comparison has a form of its own in every code: `hard.detach() +
soft - soft.detach()`, `soft + (hard - soft).detach()`. What they share is a tensor with the values
of the comparison and another gradient, and such a tensor is taken for the spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
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


class _Comparison:
    """A comparison, kept on the tensors that have its values."""

    def __init__(self, number: int, compared: Tensor, membrane: Tensor | None, kind: Kind) -> None:
        self.number = number
        self.kind = kind
        self.compared = compared
        self.membrane = membrane
        self.spikes: Tensor | None = None

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
        places: What to exchange: for the place of an operation in the forward pass, its form and
            the place of its comparison. None looks for them, and `found` has them afterwards.
    """

    def __init__(self, places: Mapping[int, tuple[Form, int]] | None = None) -> None:
        super().__init__()
        self.found: dict[int, tuple[Form, int]] = {}
        self._places = places
        self._wanted = None if places is None else {made for _, made in places.values()}
        self._count = 0
        self._made: dict[int, _Comparison] = {}
        self._hard: list[_Comparison] = []
        self._compared_so_far: list[_Comparison] = []
        self._masks: set[int] = set()
        self._marked: list[ReferenceType[Tensor]] = []

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        for reference in self._marked:  # a network may keep tensors of a pass, and be copied
            if (tensor := reference()) is not None:
                for mark in ("_attached", "_comparison", "_spiky"):
                    tensor.__dict__.pop(mark, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        args, _ = by_position(args, kwargs or {})
        self._count += 1
        name = getattr(func, "__name__", "").strip("_")
        if not isinstance(out, Tensor) or not args:
            return out
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
        if self._places is None:
            return self._look(name, args, out)
        if self._count not in self._places:
            return out
        form, number = self._places[self._count]
        if form is Form.ROUNDED:
            return rounded(out)
        made = self._made.get(number)
        return out if made is None else _exchanged(out, made)

    def _compared(self, name: str, args: Any, out: Tensor) -> _Comparison | None:
        """What an operation compares, if it does."""
        kind = Kind.STEP
        if name in ABOVE and len(args) == 2:
            above, threshold = args
        elif name in BELOW and len(args) == 2:
            threshold, above = args
            if not isinstance(above, Tensor):  # then what fires does not
                above, threshold = args
        elif name in ("heaviside", "sign", "sgn"):
            above, threshold = args[0], 0.0
        elif name in ROUNDINGS:
            above, threshold, kind = args[0], ROUNDINGS[name], Kind.ROUNDING
        elif name == "bernoulli":
            above, threshold, kind = args[0], 0.5, Kind.CHANCE
        else:
            return None
        above = getattr(above, "_attached", above)
        if not isinstance(above, Tensor) or not above.requires_grad or above.shape != out.shape:
            return None
        membrane = None
        if self._wanted is None or self._count in self._wanted:
            with torch.enable_grad():
                membrane = above - threshold
        made = _Comparison(self._count, above, membrane, kind)
        if membrane is not None:
            self._made[self._count] = made
        if self._places is None:
            self._compared_so_far.append(made)
        return None if kind is Kind.ROUNDING else made  # what is rounded may be no spikes

    def _look(self, name: str, args: Any, out: Tensor) -> Tensor:
        """Notes an operation whose output has the values of a comparison.

        Spikes are exchanged at once: what they reach would have no gradient otherwise.
        """
        exchanged, comparison = out, getattr(out, "_comparison", None)
        if comparison is not None and out.is_floating_point() and comparison.spikes is None:
            comparison.spikes = out.detach().clone()
            self._hard.append(comparison)
            self.found[self._count] = (Form.COMPARED, comparison.number)
            exchanged = _exchanged(out, comparison)
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
        for comparison in reversed(self._hard):
            hard = comparison.spikes
            assert hard is not None
            if hard.shape == out.shape and are_close(hard, out):
                return self._straight_through(out, comparison, unsure)
        if not again and not takes_few_values_only(args, out):
            return exchanged
        fits = [(made, made.staircase(out)) for made in reversed(self._compared_so_far)]
        known = [(made, staircase) for made, staircase in fits if staircase is not None]
        if known:
            comparison, _ = max(known, key=lambda fit: _likeliness(fit[1]))
            comparison.spikes = out.detach()
            spikes = self._straight_through(out, comparison, unsure)
        elif again:
            return exchanged
        else:
            self.found[self._count] = (Form.ROUNDED, -self._count)
            spikes = rounded(out)
        spikes._unsure = self._count  # type: ignore[attr-defined]
        return spikes

    def _straight_through(
        self, out: Tensor, comparison: _Comparison, instead: Sequence[int]
    ) -> Tensor:
        for place in instead:
            self.found.pop(place, None)
        self.found[self._count] = (Form.STRAIGHT_THROUGH, comparison.number)
        return _exchanged(out, comparison)

    def places(self) -> dict[int, tuple[Form, int]]:
        """What was found: one operation for each comparison, the last that has its values."""
        last = {made: place for place, (_, made) in self.found.items() if made not in self._masks}
        return {place: self.found[place] for place in last.values()}


def with_gradient(places: Mapping[int, tuple[Form, int]]) -> dict[int, tuple[Form, int]]:
    """The spikes that have a gradient by themselves.

    Where there are such, comparisons without one serve another purpose, such as a reset.
    """
    return {place: made for place, made in places.items() if made[0] is not Form.COMPARED}


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
