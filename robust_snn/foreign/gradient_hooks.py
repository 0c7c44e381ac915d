"""Hooks by which a network changes its gradients, which no gradient mode but its own has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

KINDS = ("_backward_hooks", "_backward_pre_hooks")  # of modules


class HooksLeftOut(TorchFunctionMode):
    """Hooks of tensors are not registered."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.register_hook:
            return RemovableHandle(OrderedDict())
        return func(*args, **(kwargs or {}))


def hooked_modules(net: nn.Module) -> list[str]:
    """Paths of the modules that change gradients by hooks."""
    named = net.named_modules()
    return [path for path, module in named if any(getattr(module, kind) for kind in KINDS)]


@contextmanager
def without_module_hooks(net: nn.Module) -> Iterator[None]:
    """No module of a network changes its gradients by hooks."""
    kept = []
    for module in map(net.get_submodule, hooked_modules(net)):
        for kind in KINDS:
            kept.append((module, kind, getattr(module, kind)))
            setattr(module, kind, OrderedDict())
    try:
        yield
    finally:
        for module, kind, hooks in kept:
            setattr(module, kind, hooks)
