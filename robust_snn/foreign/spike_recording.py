"""What a forward pass of somebody's network calls and computes, written down as it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from robust_snn.foreign.interception import Call
from robust_snn.foreign.library import find_nodes

Replace = Callable[[int, Any], Any]  # number of a call and its output to another output


class Recorded(NamedTuple):
    """A call of a custom autograd function, with the values of that moment.

    Attributes:
        call: The call.
        arguments: What it was called with.
        tops: The operations that made the arguments.
        out: What came of it.
        path: Path of the module whose forward pass made it.
        where: The lines of code that were running, and the module that had run last.
        writes: Whether it wrote to its arguments.
        alive: Whether the output of the network depends on it.
        number: Which of several outputs `out` is; None if there is one.
    """

    call: Call
    arguments: tuple[Any, ...]
    tops: tuple[Node | None, ...]
    out: Any
    path: str
    where: tuple[Any, ...]
    writes: bool
    alive: bool = True
    number: int | None = None

    def repeat(self, *arguments: Any) -> Any:
        """The call with other arguments; nothing of it is kept."""
        out = self.call.repeat(*arguments)
        return out if self.number is None else out[self.number]

    @property
    def node(self) -> Node:
        """The call in the graph."""
        node: Node = self.call.ctx
        return node


class Recorder:
    """Listens to a forward pass.

    Args:
        net: The network.
        unwrapped: Functions of which it hears no calls; see `Listener`.
        replace: Gives the calls another output; None changes nothing.

    Attributes:
        told: Who else is told of every call and its output.
    """

    def __init__(
        self, net: nn.Module, unwrapped: Collection[str] = (), replace: Replace | None = None
    ) -> None:
        self.net, self.unwrapped = net, unwrapped
        self.told: Callable[[Call, Any], None] | None = None
        self.calls: list[Recorded] = []
        self.ran: set[str] = set()  # paths of modules
        self._replace = replace
        self._neurons = {
            f"{path}.{name}" if path and name else path or name: _methods(node)
            for path, (node, owner) in find_nodes(net).items()
            for name, _ in node.named_modules()
            if owner.takes_all_steps(node)
        }
        self._stack: list[str] = [""]
        self._last = ""

    def running(self) -> str:
        """Path of the module that is running."""
        return self._stack[-1]

    def call(self, call: Call) -> tuple[Any, None]:
        arguments = tuple(map(_kept, call.arguments))
        tops = tuple(getattr(argument, "grad_fn", None) for argument in call.arguments)
        versions = _versions(call.arguments)
        out = call.run()
        writes = _versions(call.arguments) != versions
        if self._replace is not None:
            out = self._replace(len(self.calls), out)
        if self.told is not None:
            self.told(call, out)
        path = self._stack[-1]
        known = self._neurons.get(path, ())
        where = ("" if known else self._last, *running_lines(known))
        self.calls.append(Recorded(call, arguments, tops, _kept(out), path, where, writes))
        return out, None

    @contextmanager
    def following(self) -> Iterator[None]:
        """Knows, inside, which module is running."""

        def enter(name: str) -> Callable[..., None]:
            def push(*_: Any) -> None:
                caller = self._stack[-1]
                self.ran.add(name)
                # what several neurons share, such as a surrogate, is a part of its caller
                shared = caller and not name.startswith(f"{caller}.")
                self._stack.append(caller if shared else name)

            return push

        def leave(name: str) -> Callable[..., None]:
            def pop(*_: Any) -> None:
                self._stack.pop()
                self._last = name

            return pop

        hooks = []
        for name, module in self.net.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                hooks.append(module.register_forward_pre_hook(enter(name)))
                hooks.append(module.register_forward_hook(leave(name), always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _versions(values: Sequence[Any]) -> list[int]:
    """How often tensors have been written to."""
    return [v._version for v in values if isinstance(v, Tensor) and not v.is_inference()]


def _kept(value: Any) -> Any:
    """A value as it is now; networks change tensors in place."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().clone().requires_grad_(value.requires_grad)


def running_lines(methods: Collection[Any] = ()) -> Iterator[tuple[Any, int]]:
    """The lines of code that are running, which tell the calls of a loop from others.

    Args:
        methods: Of a neuron of a known library that runs all steps. The innermost is the last,
            since the first step may be written apart from the loop.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != SURVEY:
        yield frame.f_code, frame.f_lasti
        if frame.f_code in methods:
            return
        frame = frame.f_back


def _methods(node: nn.Module) -> set[Any]:
    """The code of all methods of a neuron."""
    classes = (cls for cls in type(node).__mro__ if cls is not nn.Module)
    methods = (value for cls in classes for value in vars(cls).values())
    return {method.__code__ for method in methods if hasattr(method, "__code__")}


def line_of_network() -> tuple[str, int, int]:
    """The file, the line and the place in the compiled code of a network that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _package(frame) in AROUND:
        frame = frame.f_back
    return (
        ("", 0, 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno, frame.f_lasti)
    )


def called_by_us() -> bool:
    """Whether a function of PyTorch that is running was called by code of this package."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (package := _package(frame)) == "torch":
        frame = frame.f_back
    return frame is not None and package == "robust_snn"


def _package(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


AROUND = ("robust_snn", "torch")  # code between a line of a network and what it calls
SURVEY = "robust_snn.foreign.survey"  # beyond it, code differs from one look to another


class Tape(TorchFunctionMode):
    """Keeps the values of every tensor that has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[Node, int], Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            self._keep(value)
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            self._keep(value)
        return out

    def _keep(self, value: Any) -> None:
        if isinstance(value, Tensor) and value.grad_fn is not None:
            self.values.setdefault((value.grad_fn, value.output_nr), value.detach().clone())

    def value(self, node: Node, output: int) -> Tensor | None:
        """What an operation gave; None if it was not seen."""
        if node.name().endswith("AccumulateGrad"):
            return node.variable.detach()  # type: ignore[attr-defined]
        known = self.values.get((node, output))
        return self._viewed(node, output) if known is None else known

    def _viewed(self, node: Any, output: int) -> Tensor | None:
        """What an operation gave that shows a step of a known tensor.

        Libraries that register their neurons as operators show nothing else of what is inside.
        """
        name = node.name().removesuffix("Backward0")
        if name not in ("Select", "Unbind", "Unsqueeze"):
            return None
        whole = self.value(*node.next_functions[0])
        if whole is None:
            return None
        if name == "Unsqueeze":
            return whole.unsqueeze(node._saved_dim)
        return whole.select(node._saved_dim, output if name == "Unbind" else node._saved_index)

    def all_values(self, outputs: Sequence[tuple[Node, int]]) -> list[Tensor] | None:
        """What some operations gave; None if one of them was not seen."""
        values = [self.value(*output) for output in outputs]
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else None
