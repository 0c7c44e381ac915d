"""Parts of a network that TorchScript has compiled, which show nothing of what fires in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

FIRING = re.compile(r"aten::(gt|ge|lt|le|heaviside|sign|sgn|round|floor|ceil|bernoulli)\b")

_as_written: ContextVar[bool] = ContextVar("scripted_functions_as_written", default=False)


@contextmanager
def scripted_functions_as_written() -> Iterator[None]:
    """Runs functions behind `torch.jit.script` as their authors wrote them in Python."""
    _install()
    token = _as_written.set(True)
    try:
        yield
    finally:
        _as_written.reset(token)


def scripted_neurons(net: nn.Module) -> list[str]:
    """Paths of the scripted modules of a network that compare or round something."""
    found: list[str] = []
    for path, module in net.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            continue
        if any(path.startswith(f"{outer}.") for outer in found) or "" in found:
            continue
        graph = getattr(module, "inlined_graph", None)
        if graph is None or FIRING.search(str(graph)):
            found.append(path)
    return found


def _install() -> None:
    """Lets calls of scripted functions be answered by their source; once per process."""
    scripted: Any = torch.jit.ScriptFunction
    if getattr(scripted.__call__, "_asks_first", False):
        return
    compiled = scripted.__call__

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        source = getattr(self, "_torchdynamo_inline", None)
        if not _as_written.get() or source is None or source.__module__.startswith("torch."):
            return compiled(self, *arguments, **named)
        return source(*arguments, **named)

    call._asks_first = True  # type: ignore[attr-defined]
    scripted.__call__ = call
