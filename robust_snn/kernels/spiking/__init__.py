"""The fused spiking loop: one forward for every gradient mode, a backward for each."""

from __future__ import annotations

from torch import Tensor

from robust_snn.errors import InputError
from robust_snn.kernels.backend import choose_backend
from robust_snn.kernels.spiking import fused, reference
from robust_snn.kernels.spiking.spec import Bptr, Bptt, Dynamics, Gate, Rule, Surrogate

__all__ = ["Bptr", "Bptt", "Dynamics", "Gate", "Rule", "Surrogate", "spiking_loop"]


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
        backend: `"auto"`, `"numba"` (CPU) or `"torch"` (anywhere); `"auto"` is Numba for CPU
            tensors and the reference for float64 and for other devices.

    Returns:
        Spikes `[T, B, ...]` in the dtype of `current`.

    Raises:
        InputError: If shapes do not fit or the backend cannot run.
    """
    steps = steps or current.shape[0]
    _check_shapes(current, steps, membrane_gain, input_gain, gate)
    tensors = [current, *(affine or ()), membrane_gain, input_gain, gate and gate.probability]
    chosen = choose_backend(backend, *tensors)
    run = reference.spiking_loop if chosen == "torch" else fused.spiking_loop
    return run(
        current,
        dynamics,
        rule,
        steps=steps,
        affine=affine,
        membrane_gain=membrane_gain,
        input_gain=input_gain,
        gate=gate,
    )


def _check_shapes(
    current: Tensor,
    steps: int,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
    gate: Gate | None,
) -> None:
    if current.dim() < 2 or current.shape[0] not in (1, steps):
        raise InputError(
            f"currents must be [T, B, ...] with T = {steps} or 1, got {tuple(current.shape)}"
        )
    for name, gain in (("membrane_gain", membrane_gain), ("input_gain", input_gain)):
        if gain is not None and gain.shape != (steps,):
            raise InputError(f"{name} must be [T] with T = {steps}, got {tuple(gain.shape)}")
    if gate is None:
        return
    if gate.probability.shape != current.shape[2:]:
        raise InputError(
            f"the gate has one probability per neuron of {tuple(gate.probability.shape)}, but the "
            f"currents are {tuple(current.shape[2:])} per sample; build the model with the "
            "img_size of its input"
        )
    if gate.keys.shape != current.shape[1:2]:
        raise InputError(
            f"the gate needs one key per sample: {current.shape[1]}, got {tuple(gate.keys.shape)}"
        )
