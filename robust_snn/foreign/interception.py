"""Listening to the custom autograd functions of a network, and exchanging their backward passes.

PyTorch looks `forward` and `backward` of a `torch.autograd.Function` up on its class at every call,
so both can be exchanged there, once per class, while the network stays as it is, an `apply` that it
has kept included. Which calls are listened to is a matter of the context: other threads and other
networks have the author's own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partialmethod
from types import CellType
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.modules._functions import BackwardHookFunction

from robust_snn.foreign.network_modes import Attached

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

    @property
    def unwrapped(self) -> Collection[str]:
        """Names of functions whose forward passes run as code of the network, and are no calls."""

    def call(self, call: Call) -> tuple[Any, Exchange | None]:
        """The output of a call, and its backward pass if it is another than the author's."""


class Exchange(Protocol):
    """A backward pass in the place of the author's.

    Attributes:
        argument: The argument whose gradient it gives.
        threshold: One that is subtracted from it, and has the same gradient but for the sign.
    """

    argument: int
    threshold: int | None = None

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


class _Unwrapped(_Unkept):
    """A context of a forward pass that runs as code of the network."""

    constant: tuple[Tensor, ...] = ()

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self.constant = tensors

    def without_gradients(self, out: Any) -> Any:
        """What the forward pass gave, without the gradients that it says are none."""
        if isinstance(out, tuple):
            return tuple(map(self.without_gradients, out))
        return out.detach() if any(out is tensor for tensor in self.constant) else out


class _Deferred:
    """A context of an autograd function that is there before PyTorch's own, which gets it all."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self._calls: list[tuple[str, tuple[Any, ...]]] = []
        self.needs_input_grad = needs

    def pass_on(self, ctx: Any) -> None:
        """Does to a context what was done to this one."""
        for name, arguments in self._calls:
            getattr(ctx, name)(*arguments)
        for name, value in vars(self).items():
            if name not in ("_calls", "needs_input_grad"):
                setattr(ctx, name, value)

    def _note(self, name: str, *arguments: Any) -> None:
        self._calls.append((name, arguments))

    save_for_backward = partialmethod(_note, "save_for_backward")
    save_for_forward = partialmethod(_note, "save_for_forward")
    mark_dirty = partialmethod(_note, "mark_dirty")
    mark_non_differentiable = partialmethod(_note, "mark_non_differentiable")
    set_materialize_grads = partialmethod(_note, "set_materialize_grads")


_waiting: ContextVar[Call | None] = ContextVar("waiting_call", default=None)
_listener: ContextVar[Listener | None] = ContextVar("spike_listener", default=None)
_open: WeakSet[AutogradFunction] = WeakSet()
_authors: WeakKeyDictionary[Callable[..., Any], Callable[..., Any]] = WeakKeyDictionary()


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
    """Classes of the custom autograd functions in the graph of some outputs, but for ours, and the
    identities by which PyTorch calls the backward hooks of modules."""
    classes = {getattr(node, "_forward_cls", None) for node in nodes_of(outputs)}
    found = {f for f in classes if f not in (None, BackwardHookFunction)}
    return {f for f in found if not f.__module__.startswith("robust_snn.")}


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
    forward = _authors.get(forward, forward)  # of a function that it inherits from
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

    def heard_apart(*arguments: Any) -> Any:
        """`heard` of a function whose forward pass gets no context, as `torch.vmap` needs it."""
        listener = _listener.get()
        if listener is None or torch._C._are_functorch_transforms_active():
            return forward(*arguments)
        call = Call(function, run, arguments, _Deferred(tuple(map(_has_gradient, arguments))))
        with torch._C.DisableTorchFunction():
            out, call.ctx.exchange = listener.call(call)
        _waiting.set(call)
        return out

    def set_up(ctx: Any, arguments: Any, out: Any) -> None:
        call = _waiting.get()
        _waiting.set(None)
        if call is None:
            setup(ctx, arguments, out)
        else:
            deferred, call.ctx = call.ctx, ctx
            deferred.pass_on(ctx)

    def applied(cls: AutogradFunction, *arguments: Any, **options: Any) -> Any:
        listener = _listener.get()
        unwrapped = () if listener is None else listener.unwrapped
        if function_name(cls) not in unwrapped or torch._C._are_functorch_transforms_active():
            return super(function, cls).apply(*arguments, **options)  # type: ignore[misc]
        ctx = _Unwrapped(tuple(map(_has_gradient, arguments)))
        with Attached():
            out = forward(*() if separate else (ctx,), *arguments, **options)
        return ctx.without_gradients(out)

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
            gradient = gradients[exchange.argument] = exchange.backward(ctx, upstream[0])
            subtracted = exchange.threshold
            if subtracted is not None and gradients[subtracted] is not None:
                shape = gradients[subtracted].shape
                gradients[subtracted] = None if gradient is None else -gradient.sum_to_size(shape)
        return tuple(gradients)

    opened = heard_apart if separate else heard
    _authors[opened] = forward
    function.forward = staticmethod(opened)  # type: ignore[method-assign]
    function.backward = staticmethod(answered)  # type: ignore[method-assign]
    if "apply" not in vars(function):
        function.apply = classmethod(applied)
    if separate:
        function.setup_context = staticmethod(set_up)  # type: ignore[method-assign, assignment]
    return True


def exchange_kept_apply(name: str) -> None:
    """Lets what keeps the `apply` of a function, as in `fire = Spike.apply`, keep ours.

    It changes modules, instances and closures that hold it by a name; they call what they called.
    """
    gc.unfreeze()  # what is frozen, as by the command line, is not looked through
    for function in [f for f in _open if function_name(f) == name]:
        for value in gc.get_referrers(function):
            if getattr(value, "__self__", None) is function and value.__name__ == "apply":
                for holder in gc.get_referrers(value):
                    _exchange(holder, value, function.apply)


def _exchange(holder: Any, value: Any, other: Any) -> None:
    """Lets a closure or a namespace, but no class, hold another value."""
    if isinstance(holder, CellType):
        holder.cell_contents = other
    elif isinstance(holder, dict) and "__module__" not in holder:
        for name, held in [*holder.items()]:
            if held is value:
                holder[name] = other


def _has_gradient(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.requires_grad


def function_name(function: type) -> str:
    """The name of an autograd function, by which other processes know it too."""
    return f"{function.__module__}.{function.__qualname__}"


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
