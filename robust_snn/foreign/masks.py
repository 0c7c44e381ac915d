"""What networks do with the mask of a comparison beside casting it, with a gradient of the mask.

A mask has none, but it is a number in whatever it takes part: `mask * v`, `a & b` as a product,
`torch.where(mask, a, b)` as a step of height `a - b`. What is computed stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

Numbers = Callable[[torch.dtype], Tensor]  # a mask as numbers with a gradient

CASTS = (
    *("float", "double", "half", "bfloat16", "int", "long", "short", "char", "byte", "bool"),
    *("to", "type", "type_as", "clone", "contiguous"),
)
NEGATIONS = ("invert", "logical_not", "bitwise_not", "neg")
PRODUCTS = ("mul", "rmul", "imul")
SUMS = ("add", "radd", "iadd", "sub", "rsub", "isub")
COUNTING = ("sum", "mean")
ARITHMETIC = (*PRODUCTS, *SUMS, "div", "truediv", "itruediv")
RESHAPING = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose"),
    *("movedim", "expand", "repeat", "getitem", "select"),
)
JOINING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **dict.fromkeys(("and", "rand", "logical_and", "bitwise_and", "mul"), lambda a, b: a * b),
    **dict.fromkeys(("or", "ror", "logical_or", "bitwise_or", "add"), lambda a, b: a + b - a * b),
    **dict.fromkeys(("xor", "rxor", "logical_xor", "bitwise_xor"), lambda a, b: a + b - 2 * a * b),
}
COUNTED = ("add", "mul")  # whole numbers are added, where booleans are joined
NEAREST = 4  # neurons at least, whose membranes are nearest to the threshold
STEEPER = 4.0  # than on most neurons, from which on a change at the threshold is a jump


class Jumped(torch.autograd.Function):
    """What a mask has chosen, as a function of the mask too."""

    @staticmethod
    def forward(ctx: Any, chosen: Tensor, mask: Tensor, jump: Any) -> Tensor:
        ctx.jump, ctx.shape = jump, mask.shape
        return chosen.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        return upstream[0], (upstream[0] * ctx.jump).sum_to_size(ctx.shape), None


class Masks:
    """The masks of a forward pass that follow from comparisons.

    Args:
        run: Runs an operation as the network would.
        cast: Casts a mask to numbers of a type, as the network would.
        weighed: Gives a mask as numbers; it also gets what these are multiplied by.
        chosen: Gives what a mask has chosen a gradient of it; it also gets the mask, and the change
            that it makes.
    """

    def __init__(
        self,
        run: Callable[..., Any],
        cast: Callable[[Tensor, torch.dtype], Tensor],
        weighed: Callable[[Tensor, torch.dtype, Any], Tensor],
        chosen: Callable[[Tensor, Tensor, Any], Tensor],
    ) -> None:
        self._run = run
        self._cast = cast
        self._weighed = weighed
        self._chosen = chosen

    def numbers(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """A mask as numbers with a gradient."""
        made: Numbers = getattr(mask, "_numbers", partial(self._cast, mask))
        return made(dtype)

    def _numbers(self, value: Tensor | int, dtype: torch.dtype) -> Any:
        return self.numbers(value, dtype) if isinstance(value, Tensor) else value

    def instead(
        self, name: str, func: Callable[..., Any], args: Sequence[Any], plain: Callable[[], Any]
    ) -> Any:
        """What an operation on masks gives with a gradient; `NotImplemented` for other operations.

        Args:
            name: Its name.
            func: The operation.
            args: Its operands.
            plain: It alone.
        """
        masks = [place for place, value in enumerate(args) if is_mask(value)]
        if not masks:
            return NotImplemented
        mask, derived = args[masks[0]], hasattr(args[masks[0]], "_numbers")
        if name in CASTS and derived:
            out = plain()
            return self.numbers(mask, out.dtype) if out.is_floating_point() else out
        if name in ARITHMETIC and len(args) == 2:
            other = args[1 - masks[0]]
            floats = isinstance(other, Tensor) and other.is_floating_point()
            if floats or type(other) is float:
                given: list[Any] = list(args)
                dtype = other.dtype if floats else torch.get_default_dtype()
                weight = other if name in PRODUCTS else None
                given[masks[0]] = self._weighed(mask, dtype, weight)
                return self._run(func, *given)
        if mask.dtype is not torch.bool or not torch.is_grad_enabled():
            return NotImplemented
        if name == "where" and len(args) == 3 and masks == [0]:
            out = plain()
            return self._chosen(out, mask, args[1] - args[2]) if _has_slope(out) else out
        if name == "masked_fill" and len(args) == 3 and masks == [1]:
            out = plain()
            filled = func is torch.Tensor.masked_fill_
            return out if filled else self._chosen(out, mask, args[2] - args[0])
        if name == "setitem" and masks == [1] and _is_constant(args[2]):
            before = args[0].detach().clone()
            plain()
            if _has_slope(args[0]):
                args[0].copy_(self._chosen(args[0].clone(), mask, args[2] - before))
            return None
        return NotImplemented

    def made_of(self, name: str, func: Callable[..., Any], args: Sequence[Any]) -> Numbers | None:
        """The numbers of a mask that an operation makes of others; None if it makes none."""
        if not any(map(is_mask, args)):
            return None
        first = args[0]
        both = [a for a in args[:2] if _is_whole(a)]
        if len(both) == 2:
            one, other = (partial(self._numbers, mask) for mask in both)
            if name in JOINING and _joins(name, both):
                return lambda dtype: JOINING[name](one(dtype), other(dtype))
            if name in (*PRODUCTS, *SUMS):
                return lambda dtype: func(one(dtype), other(dtype), *args[2:])
        if name in RESHAPING and is_mask(first):
            return lambda dtype: func(self.numbers(first, dtype), *args[1:])
        if name in ARITHMETIC and is_mask(first) and type(args[-1]) is int:
            return lambda dtype: func(self.numbers(first, dtype), *args[1:])
        if name in NEGATIONS and is_mask(first):
            all_set = int(first.dtype is torch.bool)
            return lambda dtype: all_set - self.numbers(first, dtype)
        if not hasattr(first, "_numbers"):
            return None
        known: Numbers | None = first._numbers if name in (*CASTS, "detach") else None
        return known


def is_mask(value: Any) -> bool:
    """Whether a value is a mask of neurons that fire, and not of spikes that there are already."""
    if not isinstance(value, Tensor) or value.is_floating_point():
        return False
    made = getattr(value, "_comparison", None)
    return hasattr(value, "_numbers") or (made is not None and not made.of_spikes)


def is_gate(jump: Any, membranes: Sequence[Tensor]) -> bool:
    """Whether a change vanishes where a membrane reaches its threshold, as that of a ReLU does.

    Args:
        jump: The change from below the threshold to above it.
        membranes: The membranes above their thresholds.
    """
    if not isinstance(jump, Tensor) or not membranes:
        return False
    if any(membrane.shape != jump.shape for membrane in membranes):
        return False
    live = jump.detach().flatten() != 0  # where it does not matter, it vanishes whatever it is
    distance = torch.stack([m.detach().abs() for m in membranes]).amin(0).flatten()[live].double()
    if not len(distance):
        return True
    size = jump.detach().double().abs().flatten()[live]
    if (size == size[0]).all():  # whatever the distance
        return False
    steep = size / distance.clamp(min=1e-12)
    nearest = distance.argsort()[: max(NEAREST, len(distance) // 50)]
    return bool(steep[nearest].max() <= STEEPER * steep.median())


def _is_whole(value: Any) -> bool:
    """Whether a value is whole: a tensor of masks or counts, or a number."""
    if isinstance(value, Tensor):
        return not value.is_floating_point()
    return type(value) in (int, bool)


def _joins(name: str, values: Sequence[Any]) -> bool:
    """Whether an operation joins masks: of zeros and ones, whatever their type is."""
    booleans = all(isinstance(v, bool) or getattr(v, "dtype", None) is torch.bool for v in values)
    if booleans or name in COUNTED:
        return booleans
    return all(
        0 <= int(torch.as_tensor(v).amin()) <= int(torch.as_tensor(v).amax()) <= 1 for v in values
    )


def _has_slope(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_constant(value: Any) -> bool:
    """Whether a value is the same wherever a mask sets it."""
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
