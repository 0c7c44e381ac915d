"""The public spiking loop: checks its arguments and picks the backend that runs it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from robust_snn.kernels.backend import choose_backend
from robust_snn.kernels.spiking.adaptive_surrogates import AdaptiveSurrogate
from robust_snn.kernels.spiking.autograd import compiled_membranes, compiled_spiking_loop
from robust_snn.kernels.spiking.firing_probability import CUMULATIVE
from robust_snn.kernels.spiking.reference import (
    reference_activation,
    reference_membranes,
    reference_spiking_loop,
)
from robust_snn.kernels.spiking.rules import TRIANGLE_RECURSION, Activate, Recursion, TimeRule
from robust_snn.kernels.spiking.spec import Dynamics, Gate, Homeostasis, LayerInputs, NoisyFiring
from robust_snn.utils.errors import InputError, unknown

Rule: TypeAlias = TimeRule | AdaptiveSurrogate | Activate


def spiking_loop(
    current: Tensor,
    dynamics: Dynamics,
    rule: Rule = TRIANGLE_RECURSION,
    *,
    steps: int | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
    noise: NoisyFiring | None = None,
    homeostasis: Homeostasis | None = None,
    backend: str = "auto",
) -> Tensor:
    """Runs a layer of spiking neurons over time; see `Dynamics` for the equations.

    Args:
        current: Input currents `[T, B, ...]`, or `[1, B, ...]` if the same at every step.
        dynamics: Constants of the membrane equation.
        rule: How a gradient on spikes becomes a gradient on currents; it never changes a spike,
            `Activate` aside.
        steps: Number of time steps `T`; needed only for a constant current.
        affine: Per-channel `(scale, shift)`, each `[C]`, applied to the current first (batch norm).
        membrane_gain: Factor `a` on the carried membrane, per step `[T]` (DLIF, paper form), or per
            neuron, broadcast to `[T, B, ...]` (leaks that neurons learn or draw).
        input_gain: Per-step factor `b` on the current, `[T]` (DLIF, code form).
        gate: Stochastic gate on the outgoing spikes.
        noise: Membrane noise, which makes the spikes themselves random.
        homeostasis: Thresholds that adapt (HoSNN).
        backend: `"auto"`, `"triton"` (GPU), `"numba"` (CPU) or `"torch"` (anywhere); `"auto"` is
            Triton for GPU tensors, Numba for CPU tensors, and the PyTorch reference for float64,
            for other devices, and for adapting thresholds under membrane noise or of several
            levels.

    Returns:
        Spikes `[T, B, ...]` in the dtype of `current`.

    Raises:
        InputError: If shapes do not fit or the backend cannot run.
    """
    inputs = LayerInputs(
        steps or current.shape[0], affine, membrane_gain, input_gain, gate, noise, homeostasis
    )
    _check_shapes(current, inputs)
    if dynamics.levels > 1:
        _check_levels(dynamics, noise)
    if isinstance(rule, Recursion) and rule.compact:
        _check_compact(rule, noise)
    tensors = [current, *inputs.tensors()]
    backend = choose_backend(backend, *tensors, lacking=_not_compiled(dynamics, inputs))
    if isinstance(rule, Activate):
        return reference_activation(current, dynamics, rule, inputs)
    if isinstance(rule, AdaptiveSurrogate):
        needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        rule = _adapted(rule, backend, current, dynamics, inputs) if needed else TRIANGLE_RECURSION
    if backend == "torch":
        return reference_spiking_loop(current, dynamics, rule, inputs)
    if isinstance(rule, Recursion) and rule.compact and not _has_plain_spikes(dynamics, inputs):
        rule = replace(rule, compact=False)
    return compiled_spiking_loop(backend, current, dynamics, rule, inputs)


def _adapted(
    rule: AdaptiveSurrogate,
    backend: str,
    current: Tensor,
    dynamics: Dynamics,
    inputs: LayerInputs,
) -> Recursion:
    """The rule with a sharpness from the membranes of this call."""
    if backend == "torch":
        return rule.recursion(reference_membranes(current, dynamics, inputs))
    return rule.recursion(compiled_membranes(backend, current, dynamics, inputs))


def _check_compact(rule: Recursion, noise: NoisyFiring | None) -> None:
    if rule.surrogate.family != "triangle" or rule.surrogate.floor or rule.sharpness is not None:
        raise InputError(
            "a compact backward pass needs the triangle surrogate, of one sharpness, got "
            f"{rule.surrogate.family}; leave save=compact out"
        )
    if noise is not None:
        raise InputError(
            "a compact backward pass needs spikes without membrane noise; leave save=compact out"
        )


def _check_levels(dynamics: Dynamics, noise: NoisyFiring | None) -> None:
    if dynamics.reset != "soft" or noise is not None:
        found = f"a {dynamics.reset} reset" if noise is None else "membrane noise"
        raise InputError(
            f"spikes of several levels need a soft reset and no membrane noise, got {found}"
        )


def _not_compiled(dynamics: Dynamics, inputs: LayerInputs) -> str:
    """What a layer has that compiled loops lack, or nothing."""
    if inputs.homeostasis is None:
        return ""
    if inputs.noise is not None:
        return "thresholds that adapt under membrane noise"
    if dynamics.levels > 1:
        return "several thresholds that adapt"
    if inputs.homeostasis.usual.requires_grad:
        return "gradient on usual membranes"
    return ""


def _has_plain_spikes(dynamics: Dynamics, inputs: LayerInputs) -> bool:
    """Whether a spike is 0 or 1 at a threshold that stays."""
    return dynamics.levels == 1 and inputs.homeostasis is None


def _check_shapes(current: Tensor, inputs: LayerInputs) -> None:
    steps, _, membrane_gain, input_gain, gate, noise, homeostasis = inputs
    if current.dim() < 2 or current.shape[0] not in (1, steps):
        raise InputError(
            f"currents must be [T, B, ...] with T = {steps} or 1, got {tuple(current.shape)}"
        )
    whole = (steps, *current.shape[1:])
    for name, gain in (("membrane_gain", membrane_gain), ("input_gain", input_gain)):
        if gain is None or gain.shape == (steps,):
            continue
        per_neuron = name == "membrane_gain" and gain.dim() == len(whole)
        if not per_neuron or any(a not in (1, b) for a, b in zip(gain.shape, whole, strict=True)):
            kinds = f", or broadcast to {whole}" if name == "membrane_gain" else ""
            raise InputError(
                f"{name} must be [T] with T = {steps}{kinds}, got {tuple(gain.shape)}; build the "
                "model with the T and img_size of its input"
            )
    if homeostasis is not None and homeostasis.usual.shape != (steps, *current.shape[2:]):
        raise InputError(
            f"these neurons know the usual membranes of {tuple(homeostasis.usual.shape)}, but the "
            f"currents are {(steps, *current.shape[2:])}; build the model with the T and img_size "
            "of its input"
        )
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
