"""The spiking loop in plain PyTorch: readable, float64-capable, and the oracle of every backend.

Autograd differentiates the loop itself; only the step function is replaced. The time axis is taken
apart by `unbind`, since the backward of `x[t]` costs O(T) for each of the T steps.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels.philox import Purpose, draw_uniform
from robust_snn.kernels.spiking.firing_probability import firing_probability
from robust_snn.kernels.spiking.gate import open_gates
from robust_snn.kernels.spiking.rules import (
    TRIANGLE_RECURSION,
    Activate,
    RateSlope,
    Recursion,
    Surrogate,
    TimeAverage,
    TimeRule,
)
from robust_snn.kernels.spiking.spec import Dynamics, LayerInputs, NoisyFiring, transformed
from robust_snn.kernels.spiking.surrogate_shapes import derivative
from robust_snn.utils.exporting import differentiable


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


class _WithSlope(torch.autograd.Function):
    """Spikes whose derivative with respect to the drive is a slope that is known."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, slope: Tensor, drive: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None, Tensor]:
        (slope,) = ctx.saved_tensors
        return None, None, upstream[0] * slope


@torch.no_grad()
def _spikes(z: Tensor, noise: NoisyFiring | None, uniform: Tensor | None) -> Tensor:
    """Spikes at `z = v - threshold`, or their probability in the mean field."""
    if noise is None:
        return z >= 0
    probability = firing_probability(z, noise)
    return probability if uniform is None else uniform < probability


@torch.no_grad()
def _levels_below(v: Tensor, dynamics: Dynamics) -> Tensor:
    """Number of thresholds below the one that is nearest to a membrane."""
    height = (v - dynamics.threshold) / dynamics.unit
    return (height + 0.5).floor().clamp(0, dynamics.levels - 1)


def _integrate(
    drive: Tensor,
    decays: Tensor,
    dynamics: Dynamics,
    rule: Recursion,
    inputs: LayerInputs,
) -> tuple[list[Tensor], list[Tensor]]:
    """Spikes and `v - threshold` of each step, differentiable by the recursion.

    Where a neuron has several thresholds, that is the distance to the nearest.
    """
    steps, hard = len(drive), dynamics.reset == "hard"
    noise, homeostasis = inputs.noise, inputs.homeostasis
    largest = torch.finfo(drive.dtype).max
    uniforms: Any = repeat(None)
    if noise is not None and not noise.mean:
        shape = tuple(drive.shape[2:])
        uniforms = draw_uniform(noise.keys, shape, steps, noise.layer, Purpose.SPIKE).unbind(0)
    sharpness: Any = repeat(rule.surrogate.sharpness)
    if rule.sharpness is not None:
        sharpness = rule.sharpness.expand(steps, *rule.sharpness.shape[1:]).unbind(0)
    membrane = drive.new_tensor(dynamics.v_reset if hard else 0.0)
    usual: Any = repeat(None) if homeostasis is None else homeostasis.usual.unbind(0)
    threshold: Any = dynamics.threshold
    spikes, distances = [], []
    for decay, step, uniform, sharp, expected in zip(
        decays.unbind(0), drive.unbind(0), uniforms, sharpness, usual, strict=False
    ):
        v = decay * membrane + step
        if homeostasis is not None:
            threshold = threshold + homeostasis.rate * (v - expected)
        z = v - threshold
        if dynamics.levels == 1:
            fired = _spikes(z, noise, uniform)
        else:
            below = _levels_below(v, dynamics)
            z = z - dynamics.unit * below
            fired = below + (z >= 0)
        s = differentiable(_Spike, z, fired, rule.surrogate, sharp)
        spikes.append(s)
        distances.append(z)
        reset = s.detach() if rule.detach_reset else s
        kept = (1 - reset) * v.clamp(max=largest) if hard else v  # 0 * inf would be NaN
        membrane = kept + dynamics.reset_value * reset
    return spikes, distances


def rate_slope(rule: RateSlope, spikes: Tensor, drive: Tensor) -> Tensor:
    """Slope of the rate with respect to the drive `[T, B, ...]`, `[B, ...]`."""
    if rule.edges is None:
        return rule.slope * (spikes > 0).any(0).to(drive.dtype)
    mean = torch.zeros_like(drive[0])
    for step in drive.unbind(0):  # in this order, for the same rounding everywhere
        mean = mean + step
    return slope_at(rule, mean / len(drive))


def slope_at(rule: RateSlope, mean: Tensor) -> Tensor:
    """Slope of the rate at a mean drive, for a rule with edges."""
    assert rule.edges is not None
    middle, top = rule.edges
    slope = torch.where(mean > middle, rule.upper_slope, torch.full_like(mean, rule.slope))
    return slope * ((mean > 0) & (mean <= top))


def differentiable_spikes(
    rule: RateSlope | TimeAverage, spikes: Tensor, distances: Tensor, drive: Tensor
) -> Tensor:
    """Gives spikes that have been computed the gradient of a rule without recursion.

    Args:
        rule: A slope per neuron, or an average over time.
        spikes: `[T, B, ...]`, without a gradient.
        distances: `v - threshold` of every step, `[T, B, ...]`.
        drive: What the current adds to the membrane, `[T, B, ...]`; receives the gradient.
    """
    with torch.no_grad():
        if isinstance(rule, RateSlope):
            slope = rate_slope(rule, spikes, drive)
        else:
            slope = derivative(distances, rule.surrogate, rule.surrogate.sharpness)
    if isinstance(rule, TimeAverage):
        drive = drive.mean(0, keepdim=True).expand_as(drive)
    fired: Tensor = differentiable(_WithSlope, spikes, slope, drive)
    return fired


def _fire(
    drive: Tensor,
    decays: Tensor,
    dynamics: Dynamics,
    rule: TimeRule,
    inputs: LayerInputs,
) -> Tensor:
    """Spikes `[T, B, ...]`, differentiable by the rule."""
    if isinstance(rule, Recursion):
        return torch.stack(_integrate(drive, decays, dynamics, rule, inputs)[0])
    with torch.no_grad():
        traces = _integrate(drive, decays, dynamics, TRIANGLE_RECURSION, inputs)
        spikes, distances = map(torch.stack, traces)
    return differentiable_spikes(rule, spikes, distances, drive)


def _drive(current: Tensor, dynamics: Dynamics, inputs: LayerInputs) -> tuple[Tensor, Tensor]:
    """What the current adds to the membrane, `[T, B, ...]`, and the decay of each step, `[T]` or
    broadcast to the same."""
    drive = current.to(torch.promote_types(current.dtype, torch.float32))
    if inputs.affine is not None:
        drive = transformed(drive, inputs.affine)
    if dynamics.gain != 1.0:
        drive = dynamics.gain * drive
    drive = drive.expand(inputs.steps, *drive.shape[1:])
    if inputs.input_gain is not None:
        drive = drive * inputs.input_gain.reshape(-1, *[1] * (drive.dim() - 1))
    if inputs.membrane_gain is None:
        return drive, drive.new_full((inputs.steps,), dynamics.decay)
    wide = torch.promote_types(inputs.membrane_gain.dtype, torch.float32)
    decays = dynamics.decay * inputs.membrane_gain.to(wide)
    return drive, decays.expand(inputs.steps, *decays.shape[1:])


def reference_spiking_loop(
    current: Tensor, dynamics: Dynamics, rule: TimeRule, inputs: LayerInputs
) -> Tensor:
    """Spikes `[T, B, ...]`; see `spiking_loop`, which checks the arguments."""
    drive, decays = _drive(current, dynamics, inputs)
    spikes, gate = _fire(drive, decays, dynamics, rule, inputs), inputs.gate
    if gate is not None:
        gates = open_gates(gate.probability, gate.keys, inputs.steps, gate.layer, gate.mean)
        spikes = spikes * gates
    return spikes.to(current.dtype)


def reference_activation(
    current: Tensor, dynamics: Dynamics, rule: Activate, inputs: LayerInputs
) -> Tensor:
    """The rate of every neuron in place of its spikes, `[T, B, ...]`; a gate opens by its mean."""
    drive, _ = _drive(current, dynamics, inputs)
    rate = drive.mean(0) / dynamics.unit
    if rule.levels == 0:
        rate = rate.relu()
    else:
        rate = rate.clamp(0, dynamics.levels)
        rate = rate + ((rule.levels * rate + 0.5).floor() / rule.levels - rate).detach()
    if inputs.gate is not None:
        rate = rate * inputs.gate.probability
    return rate.expand(inputs.steps, *rate.shape).to(current.dtype)


@torch.no_grad()
def reference_membranes(current: Tensor, dynamics: Dynamics, inputs: LayerInputs) -> Tensor:
    """`v - threshold` of every step, `[T, B, ...]`."""
    drive, decays = _drive(current, dynamics, inputs)
    return torch.stack(_integrate(drive, decays, dynamics, TRIANGLE_RECURSION, inputs)[1])
