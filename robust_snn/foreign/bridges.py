"""Gradients across what has none: backward pass differentiable approximation (BPDA), by itself.

Athalye et al. (ICML 2018) replace an operation without a useful derivative by one that has it, in
the backward pass alone. Operations are recognised while a network runs, wherever in its code they
are; the numbers of the forward pass stay what they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from robust_snn.foreign.comparison import ABOVE, BELOW, DIVISIONS, ROUNDINGS
from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.foreign.gradient_hooks import hooked_modules, without_module_hooks
from robust_snn.foreign.interception import (
    Call,
    Exchange,
    current_listener,
    functions_of,
    listening,
    open_function,
)
from robust_snn.foreign.masks import ARITHMETIC, CASTS, RESHAPING
from robust_snn.foreign.spike_recording import called_by_us
from robust_snn.utils.operands import by_position
from robust_snn.victim import Victim

STEPPED = (*ROUNDINGS, "fix")
LINEAR = (*ARITHMETIC, *RESHAPING, "sum", "mean", "stack", "cat")
SORTED = ("bucketize", "searchsorted")
LOOKUPS = ("getitem", "embedding")  # of a table at whole numbers
WHOLE = ("int", "long", "short", "byte", "char")  # casts that round
CUT = ("clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "relu", "relu6")  # flat beyond limits
_met: ContextVar[dict[str, None] | None] = ContextVar("crossed_operations", default=None)
_heard: WeakSet[nn.Module] = WeakSet()  # networks whose functions this process can exchange
ALIKE = 0.9  # correlation with its argument of a function that is nearly the identity


@dataclass(frozen=True)
class Bridge:
    """What passes a gradient on that has none by itself.

    Attributes:
        operations: Whether roundings, comparisons, casts and cuts at a limit do, and autograd
            functions that hardly change their argument, whatever their backward pass is; hooks
            change no gradient then.
        detached: Whether `detach` and blocks of `no_grad` do.
        readout: Path of the module whose output attacks see instead of the logits, which name the
            same class but hide how near others are; "" for the logits.
        crossed: Names of the operations and functions that were met; see `named`.
    """

    operations: bool = False
    detached: bool = False
    readout: str = ""
    crossed: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(self.crossed) or "operations without a derivative"
        what = [f"{names} pass gradients on in attacks"] if self.operations else []
        what += [f"attacks see the output of {self.readout}"] if self.readout else []
        return ", and ".join(what)

    def across(self, victim: Victim) -> Victim:
        """The victim as attacks see it."""
        net = victim.net
        if not isinstance(net, ForeignSNN):
            return victim.replace(net=Bridged(net, self), cost=victim.cost)
        how = {name: getattr(net, name) for name in net.described_by if name != "net"}
        bridged = ForeignSNN(Bridged(net.net, self), **how)
        return victim.replace(net=bridged, cost=victim.cost)


class Bridged(nn.Module):
    """A network whose backward pass goes across a bridge, for attacks.

    The forward pass is the network's own but for a readout that the bridge leaves out.
    """

    def __init__(self, net: nn.Module, bridge: Bridge) -> None:
        super().__init__()
        self.net, self.bridge = net, bridge
        self.train(net.training)

    def forward(self, x: Tensor) -> Any:
        bridge, before = self.bridge, list[Tensor]()
        with ExitStack() as stack:
            if torch.is_grad_enabled() and x.requires_grad:
                if bridge.operations:
                    for path in hooked_modules(self.net):
                        _note(f"backward hooks of {path or 'the network'}")
                    stack.enter_context(without_module_hooks(self.net))
                    self._open_functions(x)
                    stack.enter_context(listening(_Functions(current_listener())))
                stack.enter_context(_Operations(bridge))
            if bridge.readout:
                module = self.net.get_submodule(bridge.readout)
                hook = module.register_forward_hook(lambda *call: before.append(call[2]))
                stack.callback(hook.remove)
            out = self.net(x)
        return averaged(before, len(x)) if before else out

    def _open_functions(self, x: Tensor) -> None:
        """Lets bridges hear the autograd functions of the network, once in every process."""
        if self in _heard:
            return
        _heard.add(self)
        out = self.net(x)
        for function in functions_of([out] if isinstance(out, Tensor) else []):
            open_function(function)


class _Straight(torch.autograd.Function):
    """The values of one tensor with the gradient of another of the same shape."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, differentiable: Tensor) -> Tensor:
        return values.detach().clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor]:
        return None, upstream[0]


class _Operations(TorchFunctionMode):
    """Operations without a derivative pass the gradient of what they approximate on."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self.bridge.operations and func is Tensor.register_hook:
            _note("register_hook")
            return RemovableHandle(OrderedDict())
        if func is torch.autograd.grad:  # the network's own, and attacks go through its graph
            kwargs = {**(kwargs or {}), "retain_graph": True}
        if self.bridge.detached and _is_no_grad(func, args) and not called_by_us():
            _note("no_grad")
            return None
        out = func(*args, **(kwargs or {}))
        args, options = by_position(args, kwargs or {})
        if not (torch.is_grad_enabled() and isinstance(out, Tensor) and args):
            return out
        name = getattr(func, "__name__", "").strip("_")
        behind = self._behind(name, func, args, options, out)
        if behind is None or behind.shape != out.shape:
            return out
        _note(name)
        if out.is_floating_point():
            kept = out.requires_grad and name in CASTS
            return out if kept else _Straight.apply(out.detach(), behind)
        out._behind = behind  # type: ignore[attr-defined]
        return out

    def _behind(
        self, name: str, func: Callable[..., Any], args: Sequence[Any], options: Any, out: Tensor
    ) -> Tensor | None:
        """What an output approximates, with a gradient."""
        first = args[0]
        if not isinstance(first, Tensor):
            return None
        if name == "detach":
            return first if self.bridge.detached and first.requires_grad else None
        if not self.bridge.operations:
            return None
        if name in (*STEPPED, *CUT) or (name in (*WHOLE, *CASTS) and not out.is_floating_point()):
            return first if first.requires_grad else getattr(first, "_behind", None)
        if name in CASTS:
            return getattr(first, "_behind", None)
        if name in DIVISIONS or options.get("rounding_mode"):
            dividend = first if first.requires_grad else getattr(first, "_behind", None)
            return None if dividend is None else dividend / args[1]
        if name in ABOVE + BELOW and len(args) == 2:
            sign = 1 if name in ABOVE else -1
            difference = sign * (first - args[1])
            return difference if difference.requires_grad else None
        if name in SORTED:
            edges, values = args[1::-1] if name == "bucketize" else args[:2]
            return values * (edges.numel() / (edges.amax() - edges.amin()))
        if name == "where" and len(args) == 3 and hasattr(first, "_behind"):
            return first._behind * (args[1] - args[2]) + out
        if name in LOOKUPS and (found := _looked_up(name, args)) is not None:
            return found
        if name in LINEAR and any(hasattr(leaf, "_behind") for leaf in tree_leaves(args)):
            if any(hasattr(leaf, "_behind") for leaf in tree_leaves(args[1:2])) and name in LOOKUPS:
                return None  # of several indices
            smooth = tree_map(lambda leaf: getattr(leaf, "_behind", leaf), args)
            linear: Tensor = func(*smooth, **{k: v for k, v in options.items() if k != "dtype"})
            return linear
        return None


def _looked_up(name: str, args: Sequence[Any]) -> Tensor | None:
    """What a whole number that a table is read at approximates: the slope of the table there."""
    index, table = args[:2] if name == "embedding" else args[1::-1]
    behind = getattr(index, "_behind", None)
    if behind is None or len(table) < 2:
        return None
    slope: Tensor = torch.gradient(table.detach(), dim=0)[0][index]
    return slope * behind.reshape(*behind.shape, *[1] * (slope.dim() - behind.dim()))


def _is_no_grad(func: Callable[..., Any], args: Sequence[Any]) -> bool:
    return func is torch._C._set_grad_enabled and not args[0]


class _Functions:
    """Autograd functions that hardly change their argument pass its gradient on unchanged.

    Args:
        before: Who listened before, and goes on doing so.
    """

    def __init__(self, before: Any) -> None:
        self.before = before
        self.unwrapped = () if before is None else before.unwrapped

    def call(self, call: Call) -> tuple[Any, Exchange | None]:
        out, exchange = (call.run(), None) if self.before is None else self.before.call(call)
        if exchange is not None or not isinstance(out, Tensor):
            return out, exchange
        for place, (argument, needed) in enumerate(zip(call.arguments, call.needs, strict=True)):
            if needed and argument.shape == out.shape and (slope := _slope(out, argument)):
                _note(call.function.__name__)
                return out, _Sloped(place, slope)
        return out, None


class _Sloped(Exchange):
    """A constant derivative."""

    def __init__(self, argument: int, slope: float) -> None:
        self.argument, self.slope = argument, slope

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        return self.slope * upstream


@torch.no_grad()
def _slope(out: Tensor, argument: Tensor) -> float:
    """Slope of the line through the values of a function; 0 if they do not lie near one."""
    a, b = (t.detach().double().flatten() - t.double().mean() for t in (argument, out))
    lengths = float(a.norm() * b.norm())
    product = float(a @ b)
    return product / float(a @ a) if lengths and abs(product) > ALIKE * lengths else 0.0


def averaged(outputs: Sequence[Tensor], images: int) -> Tensor:
    """Logits `[B, K]` of what a module gave in all its calls, of one step or several each."""
    flat = torch.cat([out.flatten(0, -2) for out in outputs])
    return flat.unflatten(0, (-1, images)).mean(0)


def readouts(victim: Victim, x: Tensor) -> list[str]:
    """Paths of modules that name the same classes as the logits of some images `[B, C, H, W]`.

    The last ones come first.
    """
    found: dict[str, list[Tensor]] = {}
    net = victim.net.net if isinstance(victim.net, ForeignSNN) else victim.net

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.dim() >= 2 and not out.numel() % len(x):
                outputs = found.pop(path, [])
                found[path] = [*outputs, out]

        return hook

    ids = torch.arange(len(x), device=x.device)
    victim.sample(x, ids)  # a first pass may be preceded by others, which tell how samples group
    with ExitStack() as stack:
        for path, module in net.named_modules():
            if path:
                stack.callback(module.register_forward_hook(keep(path)).remove)
        logits = victim.sample(x, ids)
    classes = logits.shape[1]
    named = logits.argmax(1)
    return [
        path
        for path, outputs in reversed(found.items())
        if all(out.shape[-1] == classes for out in outputs)
        and torch.equal(averaged(outputs, len(x)).argmax(1), named)
    ]


def named(bridge: Bridge, victim: Victim, x: Tensor) -> Bridge:
    """The bridge with the names of what it crosses between images `[B, C, H, W]` and logits."""
    met = dict[str, None]()
    token = _met.set(met)
    try:
        with torch.enable_grad():
            bridge.across(victim)(x.clone().requires_grad_())
    finally:
        _met.reset(token)
    return replace(bridge, crossed=tuple(met))


def _note(name: str) -> None:
    if (met := _met.get()) is not None:
        met[name] = None
