"""Nets that hand their state back with every step, as those of norse and of NIR's readers do."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from robust_snn.foreign.library import library_of_states


class StatePassing(nn.Module):
    """A net `(x, state) -> (out, state)` as one that takes single steps and keeps its state.

    Args:
        net: The net, whose state is None at first.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.state: Any = None

    def forward(self, x: Tensor) -> Any:
        """Maps what a step gets to what the net gives, but for its state."""
        *out, self.state = self.net(x, self.state)
        return out[0] if len(out) == 1 else tuple(out)


def passes_state(net: nn.Module) -> bool:
    """Whether the second argument of a net is a state that it makes by itself at first."""
    try:
        parameters = list(inspect.signature(net.forward).parameters.values())
    except (TypeError, ValueError):
        return False
    return len(parameters) == 2 and parameters[1].name == "state" and parameters[1].default is None


def _reset(module: nn.Module) -> None:
    module.state = None  # type: ignore[assignment]


LIBRARY = library_of_states(
    "state passing", lambda module: isinstance(module, StatePassing), _reset
)
