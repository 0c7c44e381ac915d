"""The layers of a NIR graph that hold no state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.foreign.nir.nir_file import Node
from robust_snn.utils.errors import InputError

Shape = tuple[int, ...]
MAX_NEURONS = 2**26  # per sample and layer


class Scale(nn.Module):
    """Multiplies every neuron's value by a factor of its own."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def layer(node: Node) -> nn.Module:
    """The module of a node, for `[B, ...]`.

    Raises:
        InputError: If a field of the node does not fit.
    """
    try:
        return LAYERS[node.kind](node.values)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"its fields do not fit: {error}") from error


def out_shape(module: nn.Module, shape: Shape) -> Shape:
    """The shape of one sample after a layer, without computing it.

    Raises:
        InputError: If the layer does not take the shape, or gives too many neurons.
    """
    twin = copy.deepcopy(module).to("meta")
    try:
        batches = [tuple(twin(torch.empty(b, *shape, device="meta")).shape) for b in (2, 3)]
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"it does not take a sample of shape {list(shape)}: {reason}") from error
    if [batch[0] for batch in batches] != [2, 3]:  # such as a channel that it took the batch for
        raise InputError(f"it does not take samples of shape {list(shape)} in a batch")
    shape = batches[0][1:]
    if int(np.prod(shape)) > MAX_NEURONS:
        raise InputError(f"it has {int(np.prod(shape))} neurons, more than {MAX_NEURONS}")
    return shape


def _weights(values: Any) -> Tensor:
    array = np.asarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise InputError("its weights are not finite")
    return torch.from_numpy(array.copy())


def _whole(value: Any) -> int:
    return int(np.asarray(value).item())


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in np.ravel(np.asarray(value)))


def _pair(value: Any) -> tuple[int, int]:
    sizes = _sizes(value)
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _with_weights(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    module.weight = nn.Parameter(weight)
    if bias is not None:
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"a bias of shape {list(bias.shape)} for {len(weight)} outputs")
        module.bias = nn.Parameter(bias)
    return module


def _linear(values: Mapping[str, Any]) -> nn.Module:
    weight = _weights(values["weight"])
    if weight.dim() != 2:
        raise ValueError(f"a weight of shape {list(weight.shape)}; expected [outputs, inputs]")
    bias = _weights(values["bias"]) if "bias" in values else None
    with torch.device("meta"):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _with_weights(module, weight, bias)


def _convolution(cls: Any) -> Callable[..., nn.Module]:
    """Builds `nn.Conv1d` or `nn.Conv2d`."""

    def build(values: Mapping[str, Any]) -> nn.Module:
        weight, groups = _weights(values["weight"]), _whole(values["groups"])
        padding = values["padding"]
        padding = padding.decode() if isinstance(padding, bytes) else padding
        with torch.device("meta"):
            module = cls(
                weight.shape[1] * groups,
                weight.shape[0],
                tuple(weight.shape[2:]),
                _sizes(values["stride"]),
                padding if isinstance(padding, str) else _sizes(padding),
                _sizes(values["dilation"]),
                groups,
            )
        if module.weight.shape != weight.shape:
            raise ValueError(f"a weight of shape {list(weight.shape)}")
        return _with_weights(module, weight, _weights(values["bias"]))

    return build


def _pool(values: Mapping[str, Any], divisor: int | None) -> nn.Module:
    fields = (_pair(values[name]) for name in ("kernel_size", "stride", "padding"))
    kernel, stride, padding = fields
    if min(*kernel, *stride) < 1:
        raise ValueError(f"kernel {kernel} and stride {stride} must be positive")
    return nn.AvgPool2d(kernel, stride, padding, divisor_override=divisor)


def _flatten(values: Mapping[str, Any]) -> nn.Module:
    start, end = _whole(values["start_dim"]), _whole(values["end_dim"])
    return nn.Flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)


def _scale(values: Mapping[str, Any]) -> nn.Module:
    return Scale(_weights(values["scale"]))


LAYERS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "Affine": _linear,
    "AvgPool2d": lambda values: _pool(values, None),
    "Conv1d": _convolution(nn.Conv1d),
    "Conv2d": _convolution(nn.Conv2d),
    "Flatten": _flatten,
    "Input": lambda values: nn.Identity(),
    "Linear": _linear,
    "Output": lambda values: nn.Identity(),
    "Pass": lambda values: nn.Identity(),
    "Scale": _scale,
    "SumPool2d": lambda values: _pool(values, 1),
}
