"""How many spikes stand behind every entry of what averages them, found while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from robust_snn.utils.operands import by_position

# Of the spikes behind the input of a function, given its arguments; None if that is not known.
Sum = Callable[..., Tensor | None]


class PooledSpikes(TorchFunctionMode):
    """While it is entered, poolings and means note the sums of what they average.

    What is known of a tensor is found again by the storage it lies in, so that its views are known
    too, until something else is written there. A spike counts in every window that holds it. Sums,
    fixed multiples and joins of pooled tensors have the spikes of all their parts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # the tensor keeps its storage alive

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given, named = by_position(args, kwargs or {})
        # what is behind its tensors before the function, which may write to one of them
        spikes = self._spikes(func, given, named)
        out = func(*args, **(kwargs or {}))
        if given and _writes(func) and isinstance(given[0], Tensor) and self.has(given[0]):
            pooled, _ = self._known.pop(given[0].untyped_storage().data_ptr())
            if spikes is None or pooled.shape != given[0].shape:
                return out
        if spikes is not None and not (func in COPIES and self.has(out)):
            self.note(out, spikes)
        return out

    @torch.no_grad()
    def _spikes(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        """Spikes behind what a function will give; None if that is not known."""
        if not args:
            return None
        if func in SUMS:
            return SUMS[func](self.behind(args[0]), *args[1:], **kwargs)
        if not (func in JOINS or func in COPIES) or not any(map(self.has, _tensors(args))):
            return None
        behind = tree_map(lambda x: self.behind(x) if isinstance(x, Tensor) else x, tuple(args))
        kwargs = {name: value for name, value in kwargs.items() if name != "inplace"}
        spikes = JOINS.get(func, func)(*behind, **kwargs)
        return spikes if isinstance(spikes, Tensor) else None

    def has(self, x: Tensor) -> bool:
        """Whether `x` is a pooled tensor, or a view of one."""
        return x.untyped_storage().data_ptr() in self._known

    def behind(self, x: Tensor) -> Tensor:
        """Spikes behind every entry of `x`: its own values where nothing was pooled."""
        if not self.has(x):
            return x.detach()
        pooled, spikes = self._known[x.untyped_storage().data_ptr()]
        place = x.storage_offset() - pooled.storage_offset()
        return spikes.as_strided(x.shape, x.stride(), place)

    def note(self, out: Tensor, spikes: Tensor) -> None:
        """Keeps the number of spikes behind every entry of `out`."""
        alike = torch.empty_like(out, dtype=spikes.dtype).copy_(spikes)
        self._known[out.untyped_storage().data_ptr()] = out, alike


def _mean(spikes: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    mean = torch.mean(spikes, *args, **kwargs)
    return mean * (spikes.numel() / max(mean.numel(), 1))


def _pool(func: Callable[..., Tensor]) -> Sum:
    def add(
        x: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        return func(x, kernel_size, stride, padding, ceil_mode, divisor_override=1)

    return add


def _pool1d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel, step, border = (
        v if isinstance(v, int) else tuple(v)[0]
        for v in (kernel_size, kernel_size if stride in (None, (), []) else stride, padding)
    )
    window = (1, kernel), (1, step), (0, border), ceil_mode
    return F.avg_pool2d(x.unsqueeze(-2), *window, divisor_override=1).squeeze(-2)


def _adaptive(axes: int) -> Sum:
    func = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[axes]

    def add(x: Tensor, output_size: Any) -> Tensor:
        mean: Tensor = func(x, output_size)
        sides = zip(x.shape[-axes:], mean.shape[-axes:], strict=True)
        return mean * _outer(_windows(size, parts) for size, parts in sides).to(x.device)

    return add


def _outer(lengths: Iterable[Tensor]) -> Tensor:
    return reduce(lambda a, b: a[..., None] * b, lengths)


def _windows(size: int, parts: int) -> Tensor:
    """Lengths of the windows of an adaptive pooling, which overlap where they do not divide."""
    start = torch.arange(parts)
    return (-(-(start + 1) * size // parts) - start * size // parts).float()


def _resized(
    x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **how: Any
) -> Tensor | None:
    """Windows of pixels, or copies of them; None of other ways, which weigh them."""
    if mode != "area" and not mode.startswith("nearest"):
        return None
    resized = F.interpolate(x, size, scale_factor, mode, **how)
    return _adaptive(x.dim() - 2)(x, resized.shape[2:]) if mode == "area" else resized


def _plus(a: Any, b: Any, alpha: float = 1) -> Tensor | None:
    """Both parts; a number alone is merged into the bias behind it."""
    return a + b if isinstance(a, Tensor) and isinstance(b, Tensor) else _times(a, b)


def _times(a: Any, b: Any, rounding_mode: str | None = None) -> Tensor | None:
    """A fixed factor is merged into the weights behind it; None of two tensors."""
    tensors = [x for x in (a, b) if isinstance(x, Tensor)]
    return tensors[0] if len(tensors) == 1 and rounding_mode is None else None


def _tensors(args: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tuple(args)) if isinstance(leaf, Tensor)]


def _writes(func: Any) -> bool:
    """Whether a function gives its first argument other values than those it keeps track of."""
    name: str = getattr(func, "__name__", "")
    return name in WRITING or (name.endswith("_") and not name.endswith("__") and name not in KEPT)


SUMS: dict[Any, Sum] = {
    torch.mean: _mean,
    Tensor.mean: _mean,
    torch.avg_pool1d: _pool1d,
    F.avg_pool1d: _pool1d,
    F.avg_pool2d: _pool(F.avg_pool2d),
    F.avg_pool3d: _pool(F.avg_pool3d),
    F.adaptive_avg_pool1d: _adaptive(1),
    F.adaptive_avg_pool2d: _adaptive(2),
    F.adaptive_avg_pool3d: _adaptive(3),
    F.interpolate: _resized,
}
# Functions that move entries or do nothing to positive ones, where they do not give a view.
COPIES = {
    *(F.relu, torch.relu, Tensor.relu, F.pad, Tensor.contiguous, Tensor.clone, torch.clone),
    *(Tensor.flatten, torch.flatten, Tensor.reshape, torch.reshape),
}
# Functions of several tensors, in place or not, and what they do to the spikes behind these.
JOINS: dict[Any, Sum] = {torch.cat: torch.cat, torch.concat: torch.cat, torch.stack: torch.stack}
for _join, _names in {
    _plus: ("add", "add_", "__add__", "__radd__", "__iadd__"),
    _times: ("mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__"),
}.items():
    JOINS |= {
        getattr(of, name): _join for of in (Tensor, torch) for name in _names if hasattr(of, name)
    }
WRITING = {
    "__setitem__",
    *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "div", "pow")),
}
KEPT = {"relu_", "requires_grad_", "detach_"}
