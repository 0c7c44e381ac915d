"""snnTorch's neurons (0.9 and 1.0). Nothing here imports snnTorch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import getclosurevars
from typing import Any

import numpy as np
from torch import Tensor, nn

from robust_snn.foreign.interception import listening
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

DYNAMICS = (
    "_base_int",
    "_base_state_function",
    "_base_sub",
    "_base_zero",
    "fire",
    "fire_inhibition",
    "forward",
    "mem_reset",
)
PARALLEL = ("AssociativeLeaky", "StateLeaky")  # which have no reset, and take all steps at once

# Function of `snntorch.surrogate` -> ours, from the numbers that it holds.
SURROGATE_FUNCTIONS: dict[str, Callable[[Any], SurrogateFunction]] = {
    "atan": lambda its: ours.Atan(float(its["alpha"])),
    "fast_sigmoid": lambda its: ours.FastSigmoid(float(its["slope"])),
    "sigmoid": lambda its: ours.Sigmoid(float(its["slope"])),
    "straight_through_estimator": lambda its: ours.StraightThrough(),
}


def owns(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("spike_grad", "threshold", "mem_reset"))


def fires_by(node: nn.Module) -> Spike:
    some: Any = node
    function: Spike = some.spike_grad
    return function


def swap(node: nn.Module, spike: Spike, detach_reset: bool) -> AbstractContextManager[None]:
    """A neuron with another spike function; its reset passes a gradient where that is asked for.

    Raises:
        InputError: If the reset cannot be detached.
    """
    if _resets_late(node) and not detach_reset:
        some: Any = node
        return overriding(
            node, spike_grad=spike, mem_reset=lambda membrane: spike(membrane - some.threshold)
        )
    if detach_reset and not _resets_late(node):
        raise InputError(
            f"reset_delay=False of {type(node).__name__} passes the gradient of a reset; choose "
            "bptt with detach_reset=false"
        )
    return overriding(node, spike_grad=spike)


def _resets_late(node: nn.Module) -> bool:
    """Whether a reset comes a step after its spike, where snnTorch detaches it."""
    some: Any = node
    return some.reset_mechanism == "none" or getattr(some, "reset_delay", True)


def on_torch(module: nn.Module) -> AbstractContextManager[None]:
    """A state that is quantised keeps its own gradient, since its levels are no spikes."""
    quantise = getattr(module, "state_quant", None)
    if not (owns(module) and callable(quantise)):
        return nullcontext()

    def unheard(state: Tensor) -> Tensor:
        with listening(None):
            quantised: Tensor = quantise(state)
        return quantised

    return overriding(module, state_quant=unheard)


def reset(module: nn.Module) -> None:
    """Clears this neuron; snnTorch's own `reset` clears every neuron of the process."""
    some: Any = module
    if hasattr(some, "reset_mem"):
        some.reset_mem()
    elif hasattr(some, "mem"):
        some.mem = some.mem.detach() * 0


def read(node: nn.Module) -> Dynamics:
    """`Leaky` and `Lapicque`, whose spikes reset the membrane one step later, after the leak.

    v[t] = beta * v[t-1] + gain * current[t] - threshold * s[t-1]     (reset by subtraction)
    """
    kind = known_class(node, "snntorch", ("Leaky", "Lapicque"), DYNAMICS)
    some: Any = node
    for name in ("inhibition", "state_quant"):
        if getattr(some, name):
            raise Unreadable(f"{name} is outside our family of neurons")
    if not some.init_hidden:
        raise Unreadable("init_hidden=False passes the membrane by hand")
    if scalar(some.graded_spikes_factor, "graded_spikes_factor") != 1:
        raise Unreadable("its spikes are not ones")
    threshold, way, gain = scalar(some.threshold, "threshold"), some.reset_mechanism, 1.0
    if kind == "Lapicque":
        resistance, capacity = scalar(some.R, "R"), scalar(some.C, "C")
        step = scalar(some.time_step, "time_step")
        decay, gain = 1 - step / (resistance * capacity), step / capacity
        if way == "zero":
            raise Unreadable("it drops the current of the step after a spike")
    else:
        decay = min(max(scalar(some.beta, "beta"), 0.0), 1.0)
    if decay <= 0 or threshold <= 0:
        raise Unreadable("it has no memory or no positive threshold")
    # snnTorch fires above the threshold, not at it
    firing = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    if way == "zero":
        return Dynamics(decay, firing, gain, "hard")
    if way == "subtract" and not _resets_late(node):
        raise Unreadable("reset_delay=False with reset by subtraction resets twice at times")
    drop = threshold / decay if way == "subtract" else 0
    return Dynamics(decay, firing, gain, "soft", drop=drop)


def own_mode(node: nn.Module) -> BPTT:
    some: Any = node
    if some.surrogate_disable:
        raise Unreadable("surrogate_disable=True leaves it without a gradient")
    name = getattr(some.spike_grad, "__qualname__", "").split(".")[0]
    module = getattr(some.spike_grad, "__module__", "")
    if name not in SURROGATE_FUNCTIONS or module != "snntorch.surrogate":
        raise Unreadable("its surrogate is not in the catalogue")
    try:
        surrogate = SURROGATE_FUNCTIONS[name](getclosurevars(some.spike_grad).nonlocals)
    except InputError as error:
        raise Unreadable(str(error)) from error
    return BPTT(surrogate, detach_reset=_resets_late(node))


def takes_all_steps(module: nn.Module) -> bool:
    """Whether a call is all time steps."""
    return any(
        cls.__name__ in PARALLEL and cls.__module__.startswith("snntorch.")
        for cls in type(module).__mro__
    )


LIBRARY = Library(
    name="snntorch",
    owns=owns,
    swap=swap,
    reset=reset,
    read=read,
    own_mode=own_mode,
    detaches=_resets_late,
    strict=True,
    takes_one_step=lambda node: not takes_all_steps(node),
    takes_all_steps=takes_all_steps,
    fires_by=fires_by,
    on_torch=on_torch,
)
