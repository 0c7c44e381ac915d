"""The spiking loop in plain PyTorch: readable, float64-capable, and the oracle of every backend.

Autograd differentiates the loop itself; only the step function is replaced. The time axis is taken
apart by `unbind`, since the backward of `x[t]` costs O(T) for each of the T steps.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels.philox import Purpose, draw
from robust_snn.kernels.spiking.firing_probability import firing_probability
from robust_snn.kernels.spiking.gate import open_gates
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
from robust_snn.kernels.spiking.surrogate_shapes import derivative


class _Spike(torch.autograd.Function):
    """Spikes whose derivative with respect to `z` is a surrogate."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, spikes: Tensor, surrogate: Surrogate, sharpness: Tensor | float
    ) -> Tensor:
        ctx.save_for_backward(z)
        ctx.surrogate, ctx.sharpness = surrogate, sharpness
        return spikes.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        return upstream[0] * derivative(z, ctx.surrogate, ctx.sharpness), None, None, None


@torch.no_grad()
def _spikes(z: Tensor, noise: Noise | None, uniform: Tensor | None) -> Tensor:
    """Spikes at `z = v - threshold`, or their probability in the mean field."""
    if noise is None:
        return z >= 0
    probability = firing_probability(z, noise)
    return probability if uniform is None else uniform < probability


def _integrate(
    drive: Tensor, decays: Tensor, dynamics: Dynamics, rule: Bptt, noise: Noise | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Spikes and `v - threshold` of each step, differentiable by BPTT."""
    steps, hard = len(drive), dynamics.reset == "hard"
    uniforms: Any = repeat(None)
    if noise is not None and not noise.mean:
        shape = tuple(drive.shape[2:])
        uniforms = draw(noise.keys, shape, steps, noise.layer, Purpose.SPIKE).unbind(0)
    sharpness: Any = repeat(rule.surrogate.sharpness)
    if rule.sharpness is not None:
        sharpness = rule.sharpness.expand(steps, *rule.sharpness.shape[1:]).unbind(0)
    membrane = drive.new_tensor(dynamics.v_reset if hard else 0.0)
    spikes, distances = [], []
    for decay, step, uniform, sharp in zip(
        decays.unbind(0), drive.unbind(0), uniforms, sharpness, strict=False
    ):
        v = decay * membrane + step
        z = v - dynamics.threshold
        s = _Spike.apply(z, _spikes(z, noise, uniform), rule.surrogate, sharp)
        spikes.append(s)
        distances.append(z)
        reset = s.detach() if rule.detach_reset else s
        membrane = ((1 - reset) * v if hard else v) + dynamics.jump * reset
    return spikes, distances


def rate_slope(rule: Bptr | Rga, spikes: Tensor, drive: Tensor, dynamics: Dynamics) -> Tensor:
    """Slope of the rate with respect to the drive `[T, B, ...]`, `[B, ...]`."""
    if isinstance(rule, Bptr):
        return (spikes > 0).any(0).to(drive.dtype) / dynamics.threshold
    mean = torch.zeros_like(drive[0])
    for step in drive.unbind(0):  # in this order, for the same rounding everywhere
        mean = mean + step
    mean = mean / len(drive)
    rheobase, top = (1 - dynamics.decay) * dynamics.threshold, rule.beta * dynamics.threshold
    below, above = rule.slopes(dynamics)
    slope = torch.full_like(mean, below).masked_fill(mean > rheobase, above)
    return slope * ((mean > 0) & (mean <= top))


def straight_through(value: Tensor, slope: Tensor, variable: Tensor) -> Tensor:
    """`value`, with derivative `slope` with respect to `variable`."""
    return value + slope * (variable - variable.detach())


def _fire(
    drive: Tensor, decays: Tensor, dynamics: Dynamics, rule: FixedRule, noise: Noise | None
) -> Tensor:
    """Spikes `[T, B, ...]`, differentiable by the rule."""
    if isinstance(rule, Bptt):
        return torch.stack(_integrate(drive, decays, dynamics, rule, noise)[0])
    with torch.no_grad():
        any_rule = Bptt(Surrogate("triangle", 1.0))
        fired, distances = _integrate(drive, decays, dynamics, any_rule, noise)
        spikes = torch.stack(fired)
        if isinstance(rule, Hart):
            sharpness = rule.surrogate.sharpness
            slope = derivative(torch.stack(distances), rule.surrogate, sharpness)
        else:
            slope = rate_slope(rule, spikes, drive, dynamics)
    if isinstance(rule, Hart):
        drive = drive.mean(0, keepdim=True).expand_as(drive)
    return straight_through(spikes, slope, drive)


def _drive(
    current: Tensor,
    dynamics: Dynamics,
    steps: int,
    affine: tuple[Tensor, Tensor] | None,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """What the current adds to the membrane, `[T, B, ...]`, and the decay of each step, `[T]`."""
    drive = current.to(torch.promote_types(current.dtype, torch.float32))
    if affine is not None:
        scale, shift = (a.reshape(-1, *[1] * (drive.dim() - 3)) for a in affine)
        drive = drive * scale + shift
    if dynamics.gain != 1.0:
        drive = dynamics.gain * drive
    drive = drive.expand(steps, *drive.shape[1:])
    if input_gain is not None:
        drive = drive * input_gain.reshape(-1, *[1] * (drive.dim() - 1))
    if membrane_gain is None:
        return drive, drive.new_full((steps,), dynamics.decay)
    return drive, dynamics.decay * membrane_gain


def spiking_loop(
    current: Tensor,
    dynamics: Dynamics,
    rule: FixedRule,
    *,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """See `robust_snn.kernels.spiking.spiking_loop`, which checks the arguments."""
    drive, decays = _drive(current, dynamics, steps, affine, membrane_gain, input_gain)
    spikes = _fire(drive, decays, dynamics, rule, noise)
    if gate is not None:
        gates = open_gates(gate.probability, gate.keys, steps, gate.layer, gate.mean)
        spikes = spikes * gates
    return spikes.to(current.dtype)


def activate(
    current: Tensor,
    dynamics: Dynamics,
    rule: Activate,
    *,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """The rate of every neuron in place of its spikes, `[T, B, ...]`; a gate opens by its mean."""
    drive, _ = _drive(current, dynamics, steps, affine, membrane_gain, input_gain)
    rate = drive.mean(0) / dynamics.threshold
    if rule.levels == 0:
        rate = rate.relu()
    else:
        rate = rate.clamp(0, 1)
        rate = rate + ((rule.levels * rate + 0.5).floor() / rule.levels - rate).detach()
    if gate is not None:
        rate = rate * gate.probability
    return rate.expand(steps, *rate.shape).to(current.dtype)


@torch.no_grad()
def membranes(
    current: Tensor,
    dynamics: Dynamics,
    *,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """`v - threshold` of every step, `[T, B, ...]`; arguments as in `spiking_loop`."""
    drive, decays = _drive(current, dynamics, steps, affine, membrane_gain, input_gain)
    any_rule = Bptt(Surrogate("triangle", 1.0))
    return torch.stack(_integrate(drive, decays, dynamics, any_rule, noise)[1])
