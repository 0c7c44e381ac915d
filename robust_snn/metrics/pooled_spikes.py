"""How many spikes stand behind every entry of what averages them, found while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from robust_snn.utils.operands import by_position

Sum = Callable[..., Tensor]  # of the spikes behind the input of a function, given its arguments


class PooledSpikes(TorchFunctionMode):
    """While it is entered, poolings and means note the sums of what they average.

    What is known of a tensor is found again by the storage it lies in, so that its views are known
    too. A spike counts in every window that holds it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # the tensor keeps its storage alive

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        args, kwargs = by_position(args, kwargs or {})
        add = SUMS.get(func)
        if add is None and args and func in COPIES and self.has(args[0]) and not self.has(out):
            add = func
        if add is not None and args:
            with torch.no_grad():
                self.note(out, add(self.behind(args[0]), *args[1:], **kwargs))
        return out

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
}
# Functions that move entries or do nothing to positive ones, where they do not give a view.
COPIES = {
    *(F.relu, torch.relu, Tensor.relu, F.pad, Tensor.contiguous, Tensor.clone, torch.clone),
    *(Tensor.flatten, torch.flatten, Tensor.reshape, torch.reshape),
}
