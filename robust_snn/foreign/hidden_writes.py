"""Values that a network writes over a tensor whose gradient stays, by `.data` or without a graph.

`soft.data = (v > 1).float()` gives spikes the gradient of a soft function. The gradient of what is
written takes its place here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {  # to the same beside its operand
    getattr(Tensor, f"{name}_"): getattr(torch, name)
    for name in ("round", "floor", "ceil", "trunc", "sign", "gt", "ge", "lt", "le", "heaviside")
}


def hidden_write(
    func: Callable[..., Any], name: str, args: Sequence[Any]
) -> tuple[Tensor, Tensor] | None:
    """The tensor that is written over behind the back of its graph, and with what; None if none.

    Args:
        func: An operation.
        name: Its name.
        args: Its operands.
    """
    if func != SET_DATA and name != "copy":
        return None
    if len(args) < 2 or not all(isinstance(value, Tensor) for value in args[:2]):
        return None
    target, value = getattr(args[0], "_attached", args[0]), args[1]
    hidden = func == SET_DATA or is_hidden(args[0])
    return (target, value) if hidden and target.shape == value.shape else None


def is_hidden(target: Tensor) -> bool:
    """Whether what is written to a tensor now goes past its graph."""
    return hasattr(target, "_attached") or not torch.is_grad_enabled()


def write_with_gradient(target: Tensor, value: Tensor) -> bool:
    """Writes a value and its gradient over a tensor; whether that could be done."""
    if not value.requires_grad or target.grad_fn is None:
        return False
    with torch.enable_grad(), torch.autograd._unsafe_preserve_version_counter(target):
        try:
            target.detach_()
        except RuntimeError:  # it is a view of another tensor
            return False
        target.copy_(value)
    return True
