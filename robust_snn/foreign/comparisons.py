"""Spikes that a network makes by a comparison, such as `(v > 1).float()`, with a gradient or none.

A gradient that skips the comparison has a form of its own in every code: `hard.detach() +
soft - soft.detach()`, `soft + (hard - soft).detach()`. What they share is a tensor with the values
of the comparison and another gradient, and such a tensor is taken for the spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robust_snn.foreign.staircase import LEVELS, read_staircase

FEW_SEEN = 512  # values, of which most that are no spikes show it
CLOSE = 1e-5  # between spikes with another gradient and the comparison that they come from
ABOVE, BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
CASTS = ("float", "double", "half", "bfloat16", "to", "type", "type_as", "clone", "contiguous")
ROUNDINGS = {"round": 0.5, "floor": 1.0, "trunc": 1.0, "ceil": 0.0}  # where they reach one
SUMS = ("add", "radd", "iadd", "sub", "rsub", "isub")
PRODUCTS = ("mul", "rmul", "imul")


_modes: ContextVar[tuple[TorchFunctionMode, ...]] = ContextVar("function_modes", default=())


@contextmanager
def watching(*modes: TorchFunctionMode) -> Iterator[None]:
    """Lets modes see the operations of networks, and nothing of what is done around their calls."""
    token = _modes.set(modes)
    try:
        yield
    finally:
        _modes.reset(token)


@contextmanager
def inside_network() -> Iterator[None]:
    """What is done inside belongs to a network, so that the modes of `watching` see it."""
    with ExitStack() as stack:
        for mode in _modes.get():
            stack.enter_context(mode)
        yield


class Form(Enum):
    """How a network makes its spikes."""

    COMPARED = "comparison"
    STRAIGHT_THROUGH = "straight-through comparison"
    ROUNDED = "straight-through rounding of something unknown"


class Fired(torch.autograd.Function):
    """Spikes that a network has computed, as a function of its membrane above the threshold."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, spikes: Tensor, whole: bool) -> Tensor:
        return spikes.clone()  # `whole`: whether thresholds are whole numbers, others than zero too

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None, None]:
        return None, None, None


class Rounded(torch.autograd.Function):
    """Spikes that have a gradient, of a membrane that is not known."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor) -> Tensor:
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


class _Comparison:
    """A comparison, kept on the tensors that have its values."""

    def __init__(
        self, number: int, compared: Tensor, membrane: Tensor | None, rounds: bool
    ) -> None:
        self.number = number
        self.rounds = rounds
        self.compared = compared
        self.membrane = membrane
        self.spikes: Tensor | None = None


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
                for mark in ("_attached", "_comparison"):
                    tensor.__dict__.pop(mark, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
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
        if name == "where" and _is_mask(args):
            comparison = getattr(args[0], "_comparison", None)
        if name in PRODUCTS and isinstance(args[-1], int | float):
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
            return _rounded(out)
        made = self._made.get(number)
        return out if made is None else _exchanged(out, made)

    def _compared(self, name: str, args: Any, out: Tensor) -> _Comparison | None:
        """What an operation compares, if it does."""
        if name in ABOVE and len(args) == 2:
            above, threshold = args
        elif name in BELOW and len(args) == 2:
            threshold, above = args
        elif name in ("heaviside", "sign", "sgn"):
            above, threshold = args[0], 0.0
        elif name in ROUNDINGS:
            above, threshold = args[0], ROUNDINGS[name]
        elif name == "bernoulli":
            above, threshold = args[0], 0.5
        else:
            return None
        above = getattr(above, "_attached", above)
        if not isinstance(above, Tensor) or not above.requires_grad or above.shape != out.shape:
            return None
        membrane = None
        if self._wanted is None or self._count in self._wanted:
            with torch.enable_grad():
                membrane = above - threshold
        made = _Comparison(self._count, above, membrane, name in ROUNDINGS)
        if membrane is not None:
            self._made[self._count] = made
        if self._places is None:
            self._compared_so_far.append(made)
        return None if name in ROUNDINGS else made  # what is rounded may be no spikes

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
        if name in PRODUCTS:
            for one, other in (args[:2], args[1::-1]):
                used = getattr(one, "_comparison", None)
                if used is not None and other is used.compared:  # a mask, as in a ReLU
                    self._masks.add(used.number)
        marked = any(hasattr(value, "_comparison") for value in args)  # as in `0 + spikes`
        if name in SUMS and out.requires_grad and not marked:
            for comparison in reversed(self._hard):
                hard = comparison.spikes
                assert hard is not None
                if hard.shape == out.shape and torch.allclose(hard, out, rtol=0, atol=CLOSE):
                    self.found[self._count] = (Form.STRAIGHT_THROUGH, comparison.number)
                    return _exchanged(out, comparison)
            if _takes_few_values_only(args, out):
                return self._several_levels(out)
        return exchanged

    def _several_levels(self, out: Tensor) -> Tensor:
        """Notes spikes of several levels, which have a gradient that is not theirs."""
        for comparison in reversed(self._compared_so_far):
            membrane = comparison.membrane
            assert membrane is not None
            if membrane.shape != out.shape:
                continue
            if read_staircase(membrane, out, whole=comparison.rounds) is not None:
                self.found[self._count] = (Form.STRAIGHT_THROUGH, comparison.number)
                return _exchanged(out, comparison)
        self.found[self._count] = (Form.ROUNDED, -self._count)
        return _rounded(out)

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
        spikes: Tensor = Fired.apply(made.membrane, out.detach(), made.rounds)
    spikes._comparison = made  # type: ignore[attr-defined]
    return spikes


def _rounded(out: Tensor) -> Tensor:
    spikes: Tensor = Rounded.apply(out)
    return spikes


def _takes_few_values_only(args: Any, out: Tensor) -> bool:
    """Whether a sum takes a few values only, and a part of it that has a gradient more."""
    parts = [a for a in args if isinstance(a, Tensor) and a.requires_grad and a.shape == out.shape]
    return _few(out) and len(parts) < len(args) and not all(map(_few, parts))


def _few(values: Tensor) -> bool:
    flat = values.detach().flatten()
    for part in (flat[:FEW_SEEN], flat):
        if part.mul(1e4).round().unique().numel() > LEVELS:
            return False
    return True


def _is_mask(args: Any) -> bool:
    """Whether `where` chooses between two constants, the larger of them above the threshold."""
    if len(args) != 3 or any(isinstance(v, Tensor) and v.requires_grad for v in args[1:]):
        return False
    high, low = (torch.as_tensor(v).detach().unique() for v in args[1:])
    return high.numel() == low.numel() == 1 and bool(high > low)
