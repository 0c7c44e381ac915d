"""snnTorch's neurons (0.9 and 1.0). Nothing here imports snnTorch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from inspect import getclosurevars
from typing import Any

import numpy as np
from torch import Tensor, nn

from robust_snn.foreign.library import Library, Spike, Unreadable, overriding
from robust_snn.gradients import BPTT, SURROGATES
from robust_snn.kernels import Dynamics

# Function of `snntorch.surrogate` -> our name, and our argument from its own.
SURROGATE_FUNCTIONS = {
    "atan": ("atan", "alpha", "alpha"),
    "fast_sigmoid": ("fast_sigmoid", "slope", "slope"),
    "sigmoid": ("sigmoid", "alpha", "slope"),
}


def owns(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("spike_grad", "threshold", "mem_reset"))


def swap(node: nn.Module, spike: Spike, detach_reset: bool) -> AbstractContextManager[None]:
    """snnTorch always detaches the reset, so `detach_reset` reaches replaced neurons only."""
    return overriding(node, spike_grad=spike)


def reset(module: nn.Module) -> None:
    """Clears this neuron; snnTorch's own `reset` clears every neuron of the process."""
    some: Any = module
    if hasattr(some, "reset_mem"):
        some.reset_mem()
    elif hasattr(some, "mem"):
        some.mem = some.mem.detach() * 0


def read(node: nn.Module) -> Dynamics:
    """`Leaky`, whose spikes reset the membrane one step later, after the leak.

    v[t] = beta * v[t-1] + current[t] - threshold * s[t-1]     (reset by subtraction)
    """
    some: Any = node
    kind, module = type(node).__name__, type(node).__module__
    if not module.startswith("snntorch.") or kind != "Leaky":
        raise Unreadable(f"the dynamics of {kind} are not known")
    for name in ("inhibition", "state_quant"):
        if getattr(some, name):
            raise Unreadable(f"{name} is outside our family of neurons")
    if not some.init_hidden:
        raise Unreadable("init_hidden=False passes the membrane by hand")
    beta = _number(some.beta, "beta")
    threshold, factor = _number(some.threshold, "threshold"), some.graded_spikes_factor
    if _number(factor, "graded_spikes_factor") != 1:
        raise Unreadable("its spikes are not ones")
    decay = min(max(beta, 0.0), 1.0)
    if decay == 0 or threshold <= 0:
        raise Unreadable("it has no memory or no positive threshold")
    # snnTorch fires above the threshold, not at it
    firing = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    way = some.reset_mechanism
    if way == "zero":
        return Dynamics(decay, firing, 1.0, "hard")
    if way == "subtract" and not getattr(some, "reset_delay", True):
        raise Unreadable("reset_delay=False with reset by subtraction resets twice at times")
    return Dynamics(decay, firing, 1.0, "soft", drop=threshold / decay if way == "subtract" else 0)


def own_mode(node: nn.Module) -> BPTT:
    some: Any = node
    if some.surrogate_disable:
        raise Unreadable("surrogate_disable=True leaves it without a gradient")
    name = getattr(some.spike_grad, "__qualname__", "").split(".")[0]
    module = getattr(some.spike_grad, "__module__", "")
    if name not in SURROGATE_FUNCTIONS or module != "snntorch.surrogate":
        raise Unreadable("its surrogate is not in the catalogue")
    ours, argument, theirs = SURROGATE_FUNCTIONS[name]
    value = float(getclosurevars(some.spike_grad).nonlocals[theirs])
    late = some.reset_mechanism == "none" or getattr(some, "reset_delay", True)
    return BPTT(SURROGATES[ours](**{argument: value}), detach_reset=late)


def _number(value: Tensor, name: str) -> float:
    if value.numel() != 1:
        raise Unreadable(f"it has a {name} for each neuron")
    return float(value.detach())


LIBRARY = Library(
    name="snntorch",
    owns=owns,
    swap=swap,
    reset=reset,
    read=read,
    own_mode=own_mode,
    strict=True,
    takes_one_step=lambda node: True,
)
