"""Where in a network a pass is, so that what goes wrong in it can be named."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

PLACE = "robust_snn.module"  # key in the metadata of autograd's nodes


def place_text(path: str, kind: str) -> str:
    """A module as errors name it: `path (class)`, or its class alone for the whole network."""
    return f"{path} ({kind})" if path else kind


class ModuleTrace(ExitStack):
    """Follows the passes of a network that run inside, and their backward passes at any time.

    It listens to all modules of the process instead of hanging hooks on those of the network, which
    other threads may run or look at.

    Args:
        net: The network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in net.named_modules()}
        self._kinds = {name: type(module).__name__ for module, name in self._names.items()}
        self._entered = [""]
        self._backward: str | None = None

    def __enter__(self) -> ModuleTrace:
        self._thread = threading.get_ident()
        self._entered = [""]
        enter = module_hooks.register_module_forward_pre_hook(self._enter)
        leave = module_hooks.register_module_forward_hook(self._leave)
        self.callback(enter.remove)
        self.callback(leave.remove)
        return self

    @property
    def place(self) -> str:
        """The innermost module that a pass is in or was in when it failed, as `path (class)`."""
        path = self._entered[-1] if self._backward is None else self._backward
        where = place_text(path, self._kinds[path])
        return where if self._backward is None else f"the backward pass of {where}"

    def _follows(self, module: nn.Module) -> bool:
        return module in self._names and threading.get_ident() == self._thread

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if self._follows(module):
            self._backward = None
            self._entered.append(self._names[module])

    def _leave(self, module: nn.Module, inputs: Any, out: Any) -> None:
        if not self._follows(module):
            return
        name = self._entered.pop()
        node: Any = out.grad_fn if isinstance(out, Tensor) else None
        if node is not None and PLACE not in node.metadata:  # that of a module inside stays
            node.metadata[PLACE] = name
            node.register_prehook(lambda _: self._reach(name))

    def _reach(self, name: str) -> None:
        self._backward = name
