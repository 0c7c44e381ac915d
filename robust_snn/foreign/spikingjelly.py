"""SpikingJelly's neurons: 2.0.0, and the multi-step generation before it (0.0.0.0.14).

Nothing here imports SpikingJelly; its neurons are told by what they have.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from operator import methodcaller
from typing import Any

from torch import nn

from robust_snn.foreign.library import Library, Spike, Unreadable, overriding
from robust_snn.gradients import BPTT, SURROGATES
from robust_snn.kernels import Dynamics

# Neurons that bring their own training rule, or that fire without a threshold of their own.
FIXED = ("DSR", "OTTT", "SLTT", "ILIF", "FewSpike", "FlexSN", "MPBN", "PSN", "Ternary", "SpikeZIP")
LEAKY = ("LIFNode", "SimpleLIFNode")
INTEGRATING = ("IFNode", "SimpleIFNode")
PARAMETRIC = ("ParametricLIFNode",)

# Class of a surrogate -> our name, and how our arguments follow from its attributes.
SURROGATE_CLASSES: dict[str, tuple[str, dict[str, str]]] = {
    "ATan": ("atan", {"alpha": "alpha"}),
    "Erf": ("erf", {"alpha": "alpha"}),
    "LeakyKReLU": ("leaky_relu", {"slope": "k", "leak": "leak"}),
    "NonzeroSignLogAbs": ("log_abs", {"alpha": "alpha"}),
    "PiecewiseExp": ("piecewise_exp", {"alpha": "alpha"}),
    "PiecewiseQuadratic": ("piecewise_quadratic", {"alpha": "alpha"}),
    "Sigmoid": ("sigmoid", {"alpha": "alpha"}),
    "SoftSign": ("softsign", {"alpha": "alpha"}),
    "SuperSpike": ("superspike", {"alpha": "alpha"}),
}


def owns(module: nn.Module) -> bool:
    return hasattr(module, "surrogate_function")


def holds(module: nn.Module) -> bool:
    return hasattr(module, "reset") and (hasattr(module, "_memories") or owns(module))


def swap(node: nn.Module, spike: Spike, detach_reset: bool) -> AbstractContextManager[None]:
    changes: dict[str, Any] = {"surrogate_function": spike, "detach_reset": detach_reset}
    if getattr(node, "backend", "torch") != "torch":  # CuPy compiles the surrogate it knows
        changes["backend"] = "torch"
    return overriding(node, **changes)


def fixed(node: nn.Module) -> str | None:
    name = type(node).__name__
    if any(part in name for part in FIXED):
        return f"{name} brings a gradient of its own, which cannot be exchanged"
    return None


def read(node: nn.Module) -> Dynamics:
    """SpikingJelly's charge, with the membrane counted from `v_reset`.

    v[t] = u[t-1] + (current[t] - u[t-1]) / tau       (`decay_input`; else the current undivided)
    """
    kind, module = type(node).__name__, type(node).__module__
    if not module.startswith("spikingjelly.") or kind not in LEAKY + INTEGRATING + PARAMETRIC:
        raise Unreadable(f"the dynamics of {kind} are not known")
    some: Any = node
    if getattr(some, "store_v_seq", False):
        raise Unreadable("store_v_seq=True asks for membranes that a twin does not store")
    if getattr(some, "_neuron_precision", None) is not None:
        raise Unreadable("its membrane has a precision of its own")
    decay = gain = 1.0
    if kind in LEAKY + PARAMETRIC:
        rate = 1 / some.tau if kind in LEAKY else float(some.w.detach().sigmoid())
        decay, gain = 1 - rate, rate if some.decay_input else 1.0
    if some.v_reset is None:
        return Dynamics(decay, some.v_threshold, gain, "soft")
    if some.v_reset >= some.v_threshold:
        raise Unreadable("it resets to its threshold or above")
    return Dynamics(decay, some.v_threshold - some.v_reset, gain, "hard")


def own_mode(node: nn.Module) -> BPTT:
    reason = fixed(node)
    if reason is not None:
        raise Unreadable(reason)
    function: Any = node.surrogate_function
    kind = type(function).__name__
    if kind not in SURROGATE_CLASSES or not getattr(function, "spiking", True):
        raise Unreadable(f"the surrogate {kind} is not in the catalogue")
    name, arguments = SURROGATE_CLASSES[kind]
    values = {ours: float(getattr(function, theirs)) for ours, theirs in arguments.items()}
    return BPTT(SURROGATES[name](**values), bool(node.detach_reset))


LIBRARY = Library(
    name="spikingjelly",
    owns=owns,
    swap=swap,
    reset=methodcaller("reset"),
    holds=holds,
    fixed=fixed,
    read=read,
    own_mode=own_mode,
    takes_one_step=lambda node: getattr(node, "step_mode", "s") == "s",
)
