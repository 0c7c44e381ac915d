"""Interval arithmetic on tensors: a network's own code run on bounds in place of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from robust_snn.utils.errors import InputError
from robust_snn.utils.operands import by_position

# Functions that never fall when an element of their first argument rises.
MONOTONE = {
    *("adaptive_avg_pool2d", "avg_pool2d", "boolean_dispatch", "max_pool2d"),
    *("clamp", "detach", "dropout", "mean", "relu", "sum", "to"),
    *("contiguous", "expand", "flatten", "movedim", "permute", "repeat", "reshape", "select"),
    *("squeeze", "transpose", "unflatten", "unsqueeze", "view"),
}


class Linear(NamedTuple):
    """The linear layer that bounds come from."""

    inputs: Interval
    weight: Tensor
    bias: Tensor | None


class Interval:
    """Bounds of a tensor, element by element: `lower <= x <= upper`.

    PyTorch's functions and methods take it in place of a tensor where a rule is known here, so that
    the forward pass of a network gives bounds of everything between its images and its logits.

    Attributes:
        lower: Lower bounds.
        upper: Upper bounds, of the same shape.
        made_by: The linear layer that they are the result of, which differences of results use.
    """

    def __init__(self, lower: Tensor, upper: Tensor, made_by: Linear | None = None) -> None:
        self.lower = lower
        self.upper = upper
        self.made_by = made_by

    @property
    def shape(self) -> torch.Size:
        return self.lower.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.lower.dtype

    @property
    def device(self) -> torch.device:
        return self.lower.device

    def dim(self) -> int:
        return self.lower.dim()

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, where: Any) -> Interval:
        return self.map(lambda end: end[where])

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in MONOTONE:
            raise AttributeError(name)
        return lambda *args, **kwargs: _monotone(getattr(torch.Tensor, name), (self, *args), kwargs)

    def map(self, function: Callable[[Tensor], Tensor]) -> Interval:
        """The result of a function that never falls."""
        return Interval(function(self.lower), function(self.upper))

    def __add__(self, other: Interval | Tensor | float) -> Interval:
        low, high = _ends(other)
        return Interval(self.lower + low, self.upper + high)

    def __neg__(self) -> Interval:
        return Interval(-self.upper, -self.lower)

    def __sub__(self, other: Interval | Tensor | float) -> Interval:
        return self + -other

    def __rsub__(self, other: Tensor | float) -> Interval:
        return -self + other

    def __mul__(self, other: Interval | Tensor | float) -> Interval:
        products = [a * b for a in _ends(self) for b in _ends(other)]
        stacked = torch.stack(torch.broadcast_tensors(*products))
        return Interval(stacked.amin(0), stacked.amax(0))

    def __truediv__(self, other: Tensor | float) -> Interval:
        return self * (1 / other)

    __radd__, __rmul__ = __add__, __mul__

    def differences(self, label: Tensor) -> Tensor:
        """Lower bounds of how far the logit of a label leads each other one.

        Args:
            label: `[B]`, for bounds of logits `[B, K]`.

        Returns:
            `[B, K]`; 0 at the label itself. Where a linear layer made the logits, the bounds are
            those of the differences, which are tighter than differences of bounds.
        """
        own = label[:, None]
        if self.made_by is None:
            lead = self.lower.gather(1, own) - self.upper
        else:
            inputs, weight, bias = self.made_by
            rows = weight[label][:, None] - weight  # [B, K, width]
            middle, radius = (inputs.lower + inputs.upper) / 2, (inputs.upper - inputs.lower) / 2
            lead = torch.einsum("bkw,bw->bk", rows, middle)
            lead = lead - torch.einsum("bkw,bw->bk", rows.abs(), radius)
            lead = lead if bias is None else lead + bias[label][:, None] - bias
        return lead.scatter(1, own, 0.0)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        args, kwargs = by_position(args, kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in RULES:
            try:
                return RULES[name](*args, **kwargs)
            except TypeError as error:  # such as `alpha` of a sum
                raise InputError(
                    f"no bounds are known of {name} as called here: {error}"
                ) from error
        if name in MONOTONE and isinstance(args[0], Interval):
            return _monotone(func, args, kwargs)
        raise InputError(
            f"no bounds are known of the function {name} in this network; smoothing needs none"
        )


def box_around(images: Tensor, eps: float) -> Interval:
    """The images within `eps` in Linf of images in [0, 1], and in [0, 1] themselves."""
    return Interval((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))


def least_lead(leads: Tensor, labels: Tensor) -> Tensor:
    """The least lead of a label `[B]` over its rivals, of leads `[B, K]`; see `differences`."""
    return leads.scatter(1, labels[:, None], torch.inf).amin(1)


def _ends(x: Any) -> tuple[Any, Any]:
    return (x.lower, x.upper) if isinstance(x, Interval) else (x, x)


def _monotone(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Interval:
    bounds: Interval = args[0]
    return bounds.map(lambda end: func(end, *args[1:], **kwargs))


def _linear_map(func: Callable[..., Tensor], x: Interval, weight: Tensor, bias: Any) -> Interval:
    """`func(x, weight, bias)`, linear in `x`: its value in the middle, and how far it can move."""
    middle = func((x.lower + x.upper) / 2, weight, bias)
    radius = func((x.upper - x.lower) / 2, weight.abs(), None)
    return Interval(middle - radius, middle + radius)


def _conv2d(x: Interval, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Interval:
    return _linear_map(lambda a, w, b: F.conv2d(a, w, b, *rest), x, weight, bias)


def _linear(x: Interval, weight: Tensor, bias: Tensor | None = None) -> Interval:
    bounds = _linear_map(F.linear, x, weight, bias)
    return Interval(bounds.lower, bounds.upper, Linear(x, weight, bias))


def _batch_norm(
    x: Interval,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Interval:
    if training:
        raise InputError("bounds need batch norms in eval mode")
    channels = (-1, *[1] * (x.dim() - 2))
    scale = torch.rsqrt(variance + eps) * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * scale
    return x * scale.view(channels) + shift.view(channels)


def _tensordot(weights: Tensor, x: Interval, dims: int = 2, out: None = None) -> Interval:
    return _linear_map(lambda a, w, _: torch.tensordot(w, a, dims), x, weights, None)


RULES: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "tensordot": _tensordot,
    "add": lambda a, b: a + b if isinstance(a, Interval) else b + a,
    "mul": lambda a, b: a * b if isinstance(a, Interval) else b * a,
    "sub": lambda a, b: a - b if isinstance(a, Interval) else -b + a,
}
for _operator in ("add", "mul", "sub"):
    RULES[f"__{_operator}__"] = RULES[f"__r{_operator}__"] = RULES[_operator]
RULES["__radd__"] = RULES["add"]
RULES["__rmul__"] = RULES["mul"]
RULES["rsub"] = RULES["__rsub__"] = lambda a, b: b - a if isinstance(b, Interval) else -a + b
