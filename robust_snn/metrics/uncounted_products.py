"""Products of tensors whose operations nobody counts, since no layer that is known makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

OPERATORS = ("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "addmm", "baddbmm")
FUNCTIONS = (
    *(F.linear, F.bilinear, F.conv1d, F.conv2d, F.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
    *(torch.einsum, torch.tensordot),
)
PRODUCTS = {
    *FUNCTIONS,
    *(getattr(of, name) for of in (Tensor, torch) for name in OPERATORS if hasattr(of, name)),
}


class UncountedProducts(TorchFunctionMode):
    """While it is entered, names the products that run outside of layers that count.

    Attributes:
        names: Names of the functions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._layers = 0

    def enter_layer(self, *_: Any) -> None:
        """A forward pre-hook of layers whose operations are counted."""
        self._layers += 1

    def leave_layer(self, *_: Any) -> None:
        """Their forward hook, also where they raise."""
        self._layers -= 1

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not self._layers and func in PRODUCTS:
            self.names.add(func.__name__.strip("_"))
        return func(*args, **(kwargs or {}))
