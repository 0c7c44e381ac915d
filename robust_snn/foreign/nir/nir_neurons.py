"""Neurons and integrators of NIR graphs.

A layer of equal neurons of our family is our `LIF`, on the fused kernels. Others, and all that lie
on a loop, run step by step, with every constant a tensor; any surrogate reaches them.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.foreign.nir.nir_scheme import Membrane
from robust_snn.gradients import GradientMode, parse_mode
from robust_snn.kernels import Dynamics, Recursion, Rule, Surrogate
from robust_snn.kernels.spiking.surrogate_shapes import derivative
from robust_snn.neurons import LIF
from robust_snn.neurons.pass_settings import layer_gradient


class State(NamedTuple):
    """What a step leaves to the next: the membrane, and the spikes where they act late."""

    membrane: Tensor
    spikes: Tensor


class Firing(NamedTuple):
    """How the steps of a pass are differentiated."""

    surrogate: Surrogate
    detach_reset: bool
    sharpness: Tensor | None = None

    @classmethod
    def of(cls, rule: Recursion) -> Firing:
        return cls(rule.surrogate, rule.detach_reset, rule.sharpness)

    def per_step(self) -> Any:
        """The sharpness of each step."""
        return repeat(self.surrogate.sharpness) if self.sharpness is None else self.sharpness


def fused(membrane: Membrane) -> LIF | None:
    """Our neuron with these dynamics; None where a layer has none that is the same for all."""
    assert membrane.threshold is not None
    constants = [membrane.decay, membrane.gain, membrane.threshold, membrane.reset_value]
    if membrane.levels or membrane.reset == "blank" or any(np.ptp(c) for c in constants):
        return None
    decay, gain, threshold, value = (float(np.ravel(c)[0]) for c in constants)
    if not (0 < decay <= 1 and gain > 0 and threshold > 0):
        return None
    if membrane.reset == "hard":
        if value != 0:  # the kernels start where a reset leads to
            return None
        dynamics = Dynamics(decay, threshold, gain)
    else:
        drop = {"soft": value, "late": value / decay, "none": 0.0}[membrane.reset]
        dynamics = Dynamics(decay, threshold, gain, "soft", drop=drop)
    neuron = LIF()
    neuron.dynamics = dynamics
    return neuron


class Stepped(nn.Module):
    """Base of what runs step by step: constants are buffers that broadcast to one sample."""

    decay: Tensor
    gain: Tensor
    rest: Tensor

    def __init__(self, membrane: Membrane) -> None:
        super().__init__()
        for name in ("decay", "gain", "rest"):
            self.register_buffer(name, _tensor(getattr(membrane, name)))

    def start(self, shape: tuple[int, ...], like: Tensor) -> State:
        """The state at rest, for `[B, ...]`."""
        zeros = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return State(zeros, zeros)


class Integrator(Stepped):
    """A leaky integrator, whose membrane is its output: a readout, or a synapse."""

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Maps a current `[B, ...]` to the membrane."""
        membrane = self.decay * state.membrane + self.gain * current
        return membrane + self.rest, State(membrane, state.spikes)

    def forward(self, current: Tensor, steps: int) -> Tensor:
        """Maps `[T, B, ...]`, or `[1, B, ...]`, to `[T, B, ...]`."""
        current = current.expand(steps, *current.shape[1:])
        state, membranes = self.start(current.shape[1:], current), []
        for step in current.unbind(0):
            membrane, state = self.step(step, state)
            membranes.append(membrane)
        return torch.stack(membranes)


class SteppedNeuron(Stepped):
    """Neurons outside of the fused kernels' family, or on a loop; see `Membrane`."""

    threshold: Tensor
    reset_value: Tensor

    def __init__(self, membrane: Membrane) -> None:
        super().__init__(membrane)
        assert membrane.threshold is not None
        self.register_buffer("threshold", _tensor(membrane.threshold))
        self.register_buffer("reset_value", _tensor(membrane.reset_value))
        self.reset = membrane.reset
        self.levels = membrane.levels
        self.gradient: GradientMode = parse_mode("bptt")

    def rule(self) -> Rule:
        """The gradient mode of this pass, as a rule for these neurons."""
        dynamics: Any = Dynamics(cast(Any, self.decay), cast(Any, self.threshold))
        return layer_gradient(self).rule(dynamics)

    def step(
        self, current: Tensor, state: State, firing: Firing, sharpness: Tensor | float
    ) -> tuple[Tensor, Tensor, State]:
        """Maps a current `[B, ...]` to spikes and distances to the threshold."""
        v = self.decay * state.membrane + self.gain * current
        if self.reset == "blank":
            v = v * (1 - state.spikes)
        elif self.reset == "late":
            v = v - self.reset_value * state.spikes
        z = v - self.threshold
        count = torch.where(v > 0, (v / self.threshold).trunc(), 0) if self.levels else z >= 0
        spikes = _Fire.apply(z, count.detach(), self.threshold, firing.surrogate, sharpness)
        past = spikes.detach() if firing.detach_reset else spikes
        if self.reset == "hard":
            fired = past / past.detach().clamp(min=1) if self.levels else past
            v = (1 - fired) * v + self.reset_value * fired
        elif self.reset == "soft":
            v = v - self.reset_value * past
        return spikes, z, State(v, past)

    def extra_repr(self) -> str:
        return f"reset={self.reset}, levels={self.levels}"


class _Fire(torch.autograd.Function):
    """Spikes, or how often a neuron fired, whose derivative is a surrogate at every threshold."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        count: Tensor,
        threshold: Tensor,
        surrogate: Surrogate,
        sharpness: Tensor | float,
    ) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.surrogate, ctx.sharpness = surrogate, sharpness
        ctx.levels = 1 if count.dtype == torch.bool else int(count.max()) + 1
        return count.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        z, threshold = ctx.saved_tensors
        slope = derivative(z, ctx.surrogate, ctx.sharpness)
        straight = ctx.surrogate.scale == 0  # one slope everywhere, which is that of all levels
        for level in range(1, 1 if straight else ctx.levels):
            slope = slope + derivative(z - level * threshold, ctx.surrogate, ctx.sharpness)
        return upstream[0] * slope, None, None, None, None


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32).copy())
