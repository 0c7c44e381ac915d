"""What somebody may change in a network after a study of it, so that its findings hold no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import NoneType
from typing import Any

from torch import Tensor, nn

from robust_snn.foreign.library import Library, find_states, with_libraries
from robust_snn.neurons.fixed_network import may_keep_state
from robust_snn.utils.modules import modules_of

PLAIN = (str, int, float, NoneType)
IGNORED = frozenset(vars(nn.Module()))  # bookkeeping of every module, and its mode

Names = Mapping[nn.Module, Collection[str]]
Setup = dict[nn.Module, dict[str, Any]]


class Watch:
    """The modules of other people in a network, and how they are set up when it is made.

    That is their numbers, words and functions, and their tensors of one number. Larger tensors are
    not looked at: they are weights, which every pass reads anew, but for a leak per channel.

    Args:
        net: The network, at rest.
        moving: Attributes that it changes by itself.
        live: Modules whose tensors are read anew in every pass.
    """

    def __init__(self, net: nn.Module, moving: Names, live: Collection[nn.Module]) -> None:
        self._moving = moving
        self._live = frozenset(live)
        self._setup = self._look(net)
        # with the names of libraries, which can be sent to other processes
        self._states = [(module, owner.name) for module, owner in find_states(net)]

    def unchanged(self, net: nn.Module) -> bool:
        """Whether the modules are the same and set up as they were."""
        return self._look(net) == self._setup

    def other_module(self, net: nn.Module) -> str | None:
        """Which module is another one, if one is."""
        now = self._look(net)
        for path, module in net.named_modules():
            if module in now and module not in self._setup:
                return f"{path} is a new {type(module).__name__}"
        gone = [type(module).__name__ for module in self._setup if module not in now]
        return f"it has lost a {gone[0]}" if gone else None

    def states(self) -> list[tuple[nn.Module, Library]]:
        """What `find_states` finds in the network while it is unchanged."""
        return with_libraries(self._states)

    def _look(self, net: nn.Module) -> Setup:
        return {
            module: _setup_of(module, self._moving.get(module, ()), module not in self._live)
            for module in modules_of(net)
            if may_keep_state(type(module))
        }


def _setup_of(module: nn.Module, moving: Collection[str], with_tensors: bool) -> dict[str, Any]:
    found = {
        name: value
        for name, value in vars(module).items()
        if name not in IGNORED and name not in moving and _is_plain(value)
    }
    if with_tensors:
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and _is_number(tensor) and name not in moving:
                found[name] = _value(tensor)
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or callable(value)


def _is_number(tensor: Tensor) -> bool:
    """Whether it is one number; whole numbers count batches."""
    return tensor.numel() == 1 and tensor.is_floating_point()


def _value(tensor: Tensor) -> Any:
    """The number in a tensor; on a GPU, which would have to wait, its version."""
    return tensor.item() if tensor.device.type == "cpu" else (tensor.data_ptr(), tensor._version)
