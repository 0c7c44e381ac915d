"""SpikingJelly's neurons: 2.0, the generation before (0.0.0.0.14) and `clock_driven` (0.0.0.0.12).

Nothing here imports SpikingJelly; its neurons are told by what they have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import methodcaller
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from robust_snn.foreign.library import (
    Library,
    Spike,
    Unreadable,
    known_class,
    overriding,
    scalar,
)
from robust_snn.gradients import BPTT, SurrogateFunction
from robust_snn.gradients import surrogates as ours
from robust_snn.kernels import Dynamics
from robust_snn.utils.errors import InputError

LEAKY = ("LIFNode", "SimpleLIFNode", "MultiStepLIFNode")
INTEGRATING = ("IFNode", "SimpleIFNode", "MultiStepIFNode")
PARAMETRIC = ("ParametricLIFNode", "MultiStepParametricLIFNode")
DYNAMICS = (
    "forward",
    "functional_forward",
    "materialize_states",
    "multi_step_forward",
    "multi_step_functional_forward",
    "neuronal_charge",
    "neuronal_fire",
    "neuronal_reset",
    "single_step_forward",
    "single_step_functional_forward",
)
TRAINING_RULES = ("DSR", "OTTT", "SLTT")  # neurons whose backward pass is a rule of their own
BACKENDS = ("cupy", "inductor", "triton")  # which compile what they know, and no other surrogate

_steps: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # surrogates that were tried

# Class of a surrogate -> ours.
SURROGATE_CLASSES: dict[str, Callable[[Any], SurrogateFunction]] = {
    "ATan": lambda its: ours.Atan(its.alpha),
    "DeterministicPass": lambda its: ours.StraightThrough(),
    "Erf": lambda its: ours.Erf(its.alpha),
    "LeakyKReLU": lambda its: ours.LeakyReLU(its.k, its.leak),
    "NonzeroSignLogAbs": lambda its: ours.LogAbs(its.alpha),
    "PiecewiseExp": lambda its: ours.PiecewiseExp(its.alpha),
    "PiecewiseLeakyReLU": lambda its: ours.LeakyRectangle(its.w, its.c),
    "PiecewiseQuadratic": lambda its: ours.PiecewiseQuadratic(its.alpha),
    "Rect": lambda its: ours.Rectangle(1 / its.alpha),
    "Sigmoid": lambda its: ours.Sigmoid(its.alpha),
    "SoftSign": lambda its: ours.SoftSign(its.alpha),
    "SuperSpike": lambda its: ours.SuperSpike(its.alpha),
}


def owns(module: nn.Module) -> bool:
    """Neurons fire by their `surrogate_function`; containers only hand theirs to their neurons."""
    return _fires(module) and not any(_fires(m) for m in module.modules() if m is not module)


def _fires(module: nn.Module) -> bool:
    if not callable(getattr(module, "surrogate_function", None)):
        return False
    ours = any(cls.__module__.startswith("spikingjelly.") for cls in type(module).__mro__)
    return ours or hasattr(module, "v_threshold") or hasattr(module, "_memories")


def holds(module: nn.Module) -> bool:
    return hasattr(module, "reset") and (hasattr(module, "_memories") or owns(module))


def fires_by(node: nn.Module) -> Spike:
    some: Any = node
    function: Spike = some.surrogate_function
    return function


def swap(node: nn.Module, spike: Spike, detach_reset: bool) -> AbstractContextManager[None]:
    return overriding(node, surrogate_function=spike, detach_reset=detach_reset, **_for_torch(node))


def on_torch(module: nn.Module) -> AbstractContextManager[None]:
    return overriding(module, **_for_torch(module))


def _for_torch(module: nn.Module) -> dict[str, Any]:
    """Attributes with which a module runs on PyTorch itself."""
    changes: dict[str, Any] = {}
    if getattr(module, "backend", "torch") in BACKENDS:
        is_property = isinstance(getattr(type(module), "backend", None), property)
        changes["_backend" if is_property else "backend"] = "torch"
    if getattr(module, "cupy_fp32_inference", False):
        changes["cupy_fp32_inference"] = False
    return changes


def fixed(node: nn.Module) -> str | None:
    kind = type(node).__name__
    theirs = [c for c in type(node).__mro__ if c.__module__.startswith("spikingjelly.")]
    if any(c.__name__.startswith(TRAINING_RULES) for c in theirs):
        return f"{kind} brings a gradient of its own, which cannot be exchanged"
    if getattr(node, "backend", "torch") == "lava":
        return f"{kind} runs on lava, which fires by itself; build it with backend='torch'"
    if not _is_step(node.surrogate_function):
        return f"the surrogate_function of {kind} is no step from 0 to 1 at the threshold"
    return None


@torch.no_grad()
def _is_step(function: Any) -> bool:
    if not getattr(function, "spiking", True):
        return False
    if function not in _steps:
        z = torch.tensor([-4.0, -0.5, -1e-3, 1e-3, 0.5, 4.0])
        try:
            _steps[function] = bool((function(z) == (z > 0)).all())
        except Exception:  # it takes membranes of one shape only, so it cannot be told
            _steps[function] = True
    return _steps[function]


def read(node: nn.Module) -> Dynamics:
    """SpikingJelly's charge, with the membrane counted from `v_reset`.

    v[t] = u[t-1] + (current[t] - u[t-1]) / tau       (`decay_input`; else the current undivided)
    """
    kind = known_class(node, "spikingjelly", LEAKY + INTEGRATING + PARAMETRIC, DYNAMICS)
    some: Any = node
    if getattr(some, "store_v_seq", False):
        raise Unreadable("store_v_seq=True asks for membranes that a twin does not store")
    if getattr(some, "_neuron_precision", None) is not None:
        raise Unreadable("its membrane has a precision of its own")
    threshold, decay, gain = scalar(some.v_threshold, "threshold"), 1.0, 1.0
    if kind in LEAKY + PARAMETRIC:
        its = some.w.detach().sigmoid() if kind in PARAMETRIC else 1 / some.tau
        rate = scalar(its, "time constant")
        decay, gain = 1 - rate, rate if some.decay_input else 1.0
    if some.v_reset is None:
        return Dynamics(decay, threshold, gain, "soft")
    v_reset = scalar(some.v_reset, "reset value")
    if v_reset >= threshold:
        raise Unreadable("it resets to its threshold or above")
    if getattr(some, "_memories_rv", {}).get("v", v_reset) != v_reset:
        raise Unreadable("it starts elsewhere than it is reset to")
    return Dynamics(decay, threshold - v_reset, gain, "hard")


def own_mode(node: nn.Module) -> BPTT:
    reason = fixed(node)
    if reason is not None:
        raise Unreadable(reason)
    function: Any = node.surrogate_function
    kind, module = type(function).__name__, type(function).__module__
    if kind not in SURROGATE_CLASSES or not module.startswith("spikingjelly."):
        raise Unreadable(f"the surrogate {kind} is not in the catalogue")
    try:
        surrogate = SURROGATE_CLASSES[kind](function)
    except InputError as error:
        raise Unreadable(str(error)) from error
    return BPTT(surrogate, detaches(node))


def detaches(node: nn.Module) -> bool:
    return bool(getattr(node, "detach_reset", False))


def takes_all_steps(module: nn.Module) -> bool:
    """Whether a call is all time steps: said by `step_mode`, or in 0.0.0.0.12 by the class."""
    if getattr(module, "step_mode", "s") == "m":
        return True
    modes = getattr(module, "supported_step_mode", tuple)
    return tuple(modes()) == ("m",) or any(
        cls.__name__.startswith("MultiStep") and cls.__module__.startswith("spikingjelly.clock_")
        for cls in type(module).__mro__
    )


LIBRARY = Library(
    name="spikingjelly",
    owns=owns,
    swap=swap,
    reset=methodcaller("reset"),
    holds=holds,
    fixed=fixed,
    read=read,
    own_mode=own_mode,
    detaches=detaches,
    takes_one_step=lambda node: not takes_all_steps(node),
    takes_all_steps=takes_all_steps,
    fires_by=fires_by,
    on_torch=on_torch,
)
