"""The spiking loop in plain PyTorch: readable, float64-capable, and the oracle of every backend.

Autograd differentiates the loop itself; only the step function is replaced. The time axis is taken
apart by `unbind`, since the backward of `x[t]` costs O(T) for each of the T steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels.gate import open_gates
from robust_snn.kernels.spiking.spec import Bptr, Bptt, Dynamics, Gate, Rule, Surrogate
from robust_snn.kernels.spiking.surrogates import derivative


class _Spike(torch.autograd.Function):
    """Step function whose derivative is a surrogate."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(z)
        ctx.surrogate = surrogate
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return upstream[0] * derivative(z, ctx.surrogate), None


def _fire(drive: Tensor, decays: list[Tensor], dynamics: Dynamics, rule: Bptt) -> Tensor:
    """Integrates `drive` `[T, B, ...]` and returns the spikes, differentiable by BPTT."""
    membrane = drive.new_tensor(dynamics.v_reset if dynamics.reset == "hard" else 0.0)
    spikes = []
    for decay, step in zip(decays, drive.unbind(0), strict=True):
        v = decay * membrane + step
        s = _Spike.apply(v - dynamics.threshold, rule.surrogate)
        spikes.append(s)
        reset = s.detach() if rule.detach_reset else s
        if dynamics.reset == "hard":
            membrane = (1 - reset) * v + dynamics.v_reset * reset
        else:
            membrane = v - dynamics.threshold * reset
    return torch.stack(spikes)


def _straight_through(value: Tensor, slope: Tensor, variable: Tensor) -> Tensor:
    """`value`, with derivative `slope` with respect to `variable`."""
    return value + slope * (variable - variable.detach())


def spiking_loop(
    current: Tensor,
    dynamics: Dynamics,
    rule: Rule,
    *,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
) -> Tensor:
    """See `robust_snn.kernels.spiking.spiking_loop`, which checks the arguments."""
    drive = current.to(torch.promote_types(current.dtype, torch.float32))
    if affine is not None:
        scale, shift = (a.reshape(-1, *[1] * (drive.dim() - 3)) for a in affine)
        drive = drive * scale + shift
    if dynamics.gain != 1.0:
        drive = dynamics.gain * drive
    drive = drive.expand(steps, *drive.shape[1:])
    if input_gain is not None:
        drive = drive * input_gain.reshape(-1, *[1] * (drive.dim() - 1))
    decays = [drive.new_tensor(dynamics.decay)] * steps
    if membrane_gain is not None:
        decays = list((dynamics.decay * membrane_gain).unbind(0))

    match rule:
        case Bptt():
            spikes = _fire(drive, decays, dynamics, rule)
        case Bptr():
            with torch.no_grad():
                spikes = _fire(drive, decays, dynamics, Bptt(Surrogate("triangle", 1.0)))
                fired = spikes.any(0).to(drive.dtype) / dynamics.threshold
            spikes = _straight_through(spikes, fired, drive)
    if gate is not None:
        gates = open_gates(gate.probability, gate.keys, steps, gate.layer, gate.mean)
        spikes = spikes * gates
    return spikes.to(current.dtype)
