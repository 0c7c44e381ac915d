"""Listening to the custom autograd functions of a network, and exchanging their backward passes.

PyTorch looks `forward` and `backward` of a `torch.autograd.Function` up on its class at every call,
so both can be exchanged there, once per class, while the network stays as it is, an `apply` that it
has kept included. Which calls are listened to is a matter of the context: other threads and other
networks have the author's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor
from torch.autograd.graph import Node

AutogradFunction = type[torch.autograd.Function]


class Call:
    """A call of an autograd function, as a listener sees it.

    Attributes:
        function: Class of the function.
        arguments: What it was called with.
        needs: Whether each argument has a gradient.
    """

    def __init__(
        self,
        function: AutogradFunction,
        run: Callable[..., Any],
        arguments: Sequence[Any],
        ctx: Any,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.ctx = ctx
        self._run = run

    @property
    def needs(self) -> tuple[bool, ...]:
        return tuple(self.ctx.needs_input_grad)

    def repeat(self, *arguments: Any) -> Any:
        """The author's forward pass on any arguments; nothing of it is kept."""
        return self._run(_Unkept(self.needs), *arguments)

    def run(self) -> Any:
        """The author's forward pass, which keeps what its backward pass needs."""
        return self._run(self.ctx, *self.arguments)


class Listener(Protocol):
    """What runs in the place of the autograd functions of a network."""

    def call(self, call: Call) -> tuple[Any, Exchange | None]:
        """The output of a call, and its backward pass if it is another than the author's."""


class Exchange(Protocol):
    """A backward pass in the place of the author's."""

    argument: int

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor | None:
        """The gradient on `argument`."""


class _Unkept:
    """A context of an autograd function that forgets everything."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs

    def save_for_backward(self, *tensors: Tensor) -> None: ...
    def save_for_forward(self, *tensors: Tensor) -> None: ...
    def mark_dirty(self, *tensors: Tensor) -> None: ...
    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("spike_listener", default=None)
_open: WeakSet[AutogradFunction] = WeakSet()


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Lets a listener run in the place of the opened functions."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def current_listener() -> Listener | None:
    """Who listens in this context."""
    return _listener.get()


def functions_of(outputs: Sequence[Tensor]) -> set[AutogradFunction]:
    """Classes of the custom autograd functions in the graph of some outputs, but for ours."""
    classes = {getattr(node, "_forward_cls", None) for node in nodes_of(outputs)}
    return {f for f in classes if f is not None and not f.__module__.startswith("robust_snn.")}


def nodes_of(outputs: Sequence[Tensor]) -> set[Node]:
    """All operations in the graph of some outputs."""
    seen: set[Node] = set()
    todo = [out.grad_fn for out in outputs if out.grad_fn is not None]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    return seen


def open_function(function: AutogradFunction) -> bool:
    """Lets listeners hear the calls of a function from now on; whether they did not before."""
    if function in _open:
        return False
    _open.add(function)
    forward, backward = function.forward, function.backward
    setup = function.setup_context
    separate = setup is not torch.autograd.function._SingleLevelFunction.setup_context

    def run(ctx: Any, *arguments: Any) -> Any:
        with listening(None):  # a function that it inherits from is heard no second time
            if not separate:
                return forward(ctx, *arguments)
            out = forward(*arguments)
            setup(ctx, arguments, out)
            return out

    def heard(ctx: Any, *arguments: Any) -> Any:
        listener = _listener.get()
        if listener is None:
            return run(ctx, *arguments)
        with torch._C.DisableTorchFunction():  # what is inside is not the network's
            out, ctx.exchange = listener.call(Call(function, run, arguments, ctx))
        return out

    def answered(ctx: Any, *upstream: Any) -> Any:
        exchange = getattr(ctx, "exchange", None)
        if exchange is None:
            return backward(ctx, *upstream)
        gradients: list[Any] = [None] * len(ctx.needs_input_grad)
        others = [need for i, need in enumerate(ctx.needs_input_grad) if i != exchange.argument]
        if any(others):  # such as a threshold that adapts
            own = backward(ctx, *upstream)
            gradients = list(own) if isinstance(own, tuple) else [own]
        if upstream[0] is not None:
            gradients[exchange.argument] = exchange.backward(ctx, upstream[0])
        return tuple(gradients)

    function.forward = staticmethod(heard)  # type: ignore[method-assign]
    function.backward = staticmethod(answered)  # type: ignore[method-assign]
    if separate:  # `heard` keeps everything itself
        function.setup_context = torch.autograd.function._SingleLevelFunction.setup_context  # type: ignore[method-assign]
    return True


def _opening_new_functions() -> None:
    """Opens the functions whose classes a network creates while it is listened to."""
    meta = type(torch.autograd.Function)
    create = meta.__init__

    def created(cls: Any, name: str, bases: Any, attributes: Any) -> None:
        create(cls, name, bases, attributes)
        if _listener.get() is not None:
            open_function(cls)

    meta.__init__ = created  # type: ignore[method-assign]


_opening_new_functions()
