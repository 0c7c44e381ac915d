"""The fused spiking loop: one forward for every gradient mode, a backward for each."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from robust_snn.kernels.backend import choose_backend
from robust_snn.kernels.spiking import autograd as fused
from robust_snn.kernels.spiking import reference
from robust_snn.kernels.spiking.adaptive_surrogates import Assg, Pdsg, SharpnessMemory, adapt
from robust_snn.kernels.spiking.firing_probability import CUMULATIVE
from robust_snn.kernels.spiking.spec import (
    Activate,
    Bptr,
    Bptt,
    Dynamics,
    FixedRule,
    Gate,
    Hart,
    Noise,
    Rga,
    Surrogate,
)
from robust_snn.utils.errors import InputError, unknown

Rule: TypeAlias = FixedRule | Pdsg | Assg | Activate

__all__ = [
    "Activate",
    "Assg",
    "Bptr",
    "Bptt",
    "Dynamics",
    "Gate",
    "Hart",
    "Noise",
    "Pdsg",
    "Rga",
    "Rule",
    "SharpnessMemory",
    "Surrogate",
    "spiking_loop",
]


def spiking_loop(
    current: Tensor,
    dynamics: Dynamics,
    rule: Rule,
    *,
    steps: int | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
    noise: Noise | None = None,
    backend: str = "auto",
) -> Tensor:
    """Runs a layer of spiking neurons over time; see `Dynamics` for the equations.

    Args:
        current: Input currents `[T, B, ...]`, or `[1, B, ...]` if the same at every step.
        dynamics: Constants of the membrane equation.
        rule: How a gradient on spikes becomes a gradient on currents; it never changes a spike.
        steps: Number of time steps `T`; needed only for a constant current.
        affine: Per-channel `(scale, shift)`, each `[C]`, applied to the current first (batch norm).
        membrane_gain: Per-step factor `a` on the carried membrane, `[T]` (DLIF, paper form).
        input_gain: Per-step factor `b` on the current, `[T]` (DLIF, code form).
        gate: Stochastic gate on the outgoing spikes.
        noise: Membrane noise, which makes the spikes themselves random.
        backend: `"auto"`, `"numba"` (CPU) or `"torch"` (anywhere); `"auto"` is Numba for CPU
            tensors and the reference for float64 and for other devices.

    Returns:
        Spikes `[T, B, ...]` in the dtype of `current`.

    Raises:
        InputError: If shapes do not fit or the backend cannot run.
    """
    steps = steps or current.shape[0]
    _check_shapes(current, steps, membrane_gain, input_gain, gate, noise)
    tensors = [current, *(affine or ()), membrane_gain, input_gain, gate and gate.probability]
    backend = choose_backend(backend, *tensors)
    layer: dict[str, Any] = {
        "steps": steps,
        "affine": affine,
        "membrane_gain": membrane_gain,
        "input_gain": input_gain,
        "noise": noise,
    }
    if isinstance(rule, Bptt) and rule.compact:
        _check_compact(rule, noise)
    if isinstance(rule, Activate):
        return reference.activate(current, dynamics, rule, gate=gate, **layer)
    spikes, membranes = reference.spiking_loop, reference.membranes
    if backend != "torch":
        spikes = partial(fused.spiking_loop, backend=backend)
        membranes = partial(fused.membranes, backend=backend)
    if isinstance(rule, Pdsg | Assg):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            rule = adapt(rule, membranes(current, dynamics, **layer))
        else:
            rule = Bptr()  # no gradient will pass
    return spikes(current, dynamics, rule, gate=gate, **layer)


def _check_compact(rule: Bptt, noise: Noise | None) -> None:
    if rule.surrogate.family != "triangle" or rule.surrogate.floor or rule.sharpness is not None:
        raise InputError("a compact backward pass needs the triangle surrogate, of one sharpness")
    if noise is not None:
        raise InputError("a compact backward pass needs spikes without membrane noise")


def _check_shapes(
    current: Tensor,
    steps: int,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
    gate: Gate | None,
    noise: Noise | None,
) -> None:
    if current.dim() < 2 or current.shape[0] not in (1, steps):
        raise InputError(
            f"currents must be [T, B, ...] with T = {steps} or 1, got {tuple(current.shape)}"
        )
    for name, gain in (("membrane_gain", membrane_gain), ("input_gain", input_gain)):
        if gain is not None and gain.shape != (steps,):
            raise InputError(f"{name} must be [T] with T = {steps}, got {tuple(gain.shape)}")
    if gate is not None and gate.probability.shape != current.shape[2:]:
        raise InputError(
            f"the gate has one probability per neuron of {tuple(gate.probability.shape)}, but the "
            f"currents are {tuple(current.shape[2:])} per sample; build the model with the "
            "img_size of its input"
        )
    if noise is not None and noise.family not in CUMULATIVE:
        raise unknown("membrane noise", noise.family, CUMULATIVE)
    for source in (gate, noise):
        if source is not None and source.keys.shape != current.shape[1:2]:
            raise InputError(
                f"random draws need one key per sample: {current.shape[1]}, "
                f"got {tuple(source.keys.shape)}"
            )
