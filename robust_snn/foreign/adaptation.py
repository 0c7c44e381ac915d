"""How a network was adapted, for the record of a run."""

from __future__ import annotations

from typing import Any

from torch import nn

from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.foreign.preprocess import Preprocessed
from robust_snn.utils.user_function import UserFunction, short_reference


def adaptation(net: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """The network that was brought, and the arguments with which `adapt` wrapped it.

    Args:
        net: The network of a victim.

    Returns:
        The innermost network, and the arguments that are not the defaults, as JSON values.
    """
    found: dict[str, Any] = {}
    while isinstance(net, ForeignSNN | Preprocessed):
        if isinstance(net, Preprocessed):
            found |= net.arguments()
        else:
            names = ("T", "encoder", "output", "random")
            values = {name: getattr(net, name, None) for name in names}
            values["readout"] = None if net.readout == "mean" else net.readout
            found |= {name: _written(value) for name, value in values.items() if value}
        net = net.net
    return net, found


def _written(value: Any) -> Any:
    """A number or word as it is, a function or module by its name."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, UserFunction):
        return short_reference(value.reference)
    return getattr(value, "__qualname__", type(value).__name__)
