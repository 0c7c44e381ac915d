"""The forward pass of a spiking loop, as plain data that every backend reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    """Constants of the membrane equation.

        v[t] = decay * a[t] * u[t-1] + gain * b[t] * current[t]
        s[t] = [v[t] >= threshold]
        u[t] = v[t] * (1 - s[t]) + v_reset * s[t]  (hard)   or   v[t] - drop * s[t]  (soft)

    and the membrane starts at `v_reset` (hard) or 0 (soft). With several levels, which need a soft
    reset, a spike is the number of thresholds `threshold + k * drop`, `k < levels`, that the
    membrane has reached.

    Attributes:
        decay: Leak per step, in (0, 1]; 1 is an integrate-and-fire neuron.
        threshold: Firing threshold; membranes are in its unit.
        gain: Factor on the current; SpikingJelly's `decay_input=True` is `gain = 1 - decay`.
        reset: `"hard"` sets the membrane to `v_reset`, `"soft"` subtracts `drop`.
        v_reset: Membrane after a hard reset.
        drop: What a soft reset subtracts, the threshold if left out; snnTorch's delayed reset,
            which comes after the leak, is `threshold / decay`.
        levels: Largest value of a spike; 1 makes spikes binary.
    """

    decay: float = 1.0
    threshold: float = 1.0
    gain: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    v_reset: float = 0.0
    drop: float | None = None
    levels: int = 1

    @property
    def unit(self) -> float:
        """Drive per unit of the rate of a neuron without leak."""
        return self.threshold if self.levels == 1 else -self.reset_value

    @property
    def reset_value(self) -> float:
        """What a spike sets the membrane to (hard reset), or adds to it (soft reset)."""
        if self.reset == "hard":
            return self.v_reset
        return -(self.threshold if self.drop is None else self.drop)


class NoisyFiring(NamedTuple):
    """Membrane noise makes spikes random: `s[t] ~ Bernoulli(F(v[t] - threshold))`.

    The density `F'` is a surrogate's shape, which makes that surrogate the exact local gradient of
    the firing probability.

    Attributes:
        family: Density: a row of `firing_probability.CUMULATIVE`.
        sharpness: Inverse width of the density.
        keys: Random keys of the samples `[B]`, int64.
        layer: Address of the layer in the random stream.
        mean: Whether the firing probability stands in for the spikes.
    """

    family: str
    sharpness: float
    keys: Tensor
    layer: int = 0
    mean: bool = False


class Gate(NamedTuple):
    """A stochastic gate on the outgoing spikes: `out[t] = s[t] * g[t]`, `g[t] ~ Bernoulli(p)`.

    Attributes:
        probability: Opening probabilities, shaped as one sample of the layer.
        keys: Random keys of the samples `[B]`, int64.
        layer: Address of the layer in the random stream.
        mean: Whether the gate's mean `p` stands in for its draws.
    """

    probability: Tensor
    keys: Tensor
    layer: int = 0
    mean: bool = False


class Homeostasis(NamedTuple):
    """Thresholds that follow how far each membrane is from its usual course (HoSNN).

        threshold[t] = threshold[t-1] + rate * (v[t] - usual[t])

    Attributes:
        rate: Per neuron, shaped as one sample.
        usual: The usual membrane of each neuron at each step, `[T, *shape]`.
    """

    rate: Tensor
    usual: Tensor


def transformed(current: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
    """Currents `[T, B, C, ...]` under a per-channel `(scale, shift)`, each `[C]`."""
    scale, shift = (each.reshape(-1, *[1] * (current.dim() - 3)) for each in affine)
    return current * scale + shift


class LayerInputs(NamedTuple):
    """What a layer gets besides its current; see `spiking_loop`.

    Attributes:
        steps: Number of time steps `T`.
        affine: Per-channel `(scale, shift)`, each `[C]`, applied to the current first.
        membrane_gain: Factor on the carried membrane, per step `[T]`, or for neurons of their own
            leak broadcast to `[T, B, ...]`.
        input_gain: Per-step factor on the current, `[T]`.
        gate: Stochastic gate on the outgoing spikes.
        noise: Membrane noise.
        homeostasis: Thresholds that adapt.
    """

    steps: int
    affine: tuple[Tensor, Tensor] | None = None
    membrane_gain: Tensor | None = None
    input_gain: Tensor | None = None
    gate: Gate | None = None
    noise: NoisyFiring | None = None
    homeostasis: Homeostasis | None = None

    def tensors(self) -> list[Tensor]:
        """Those that are given and may need a gradient."""
        probability = None if self.gate is None else self.gate.probability
        given = (*(self.affine or ()), self.membrane_gain, self.input_gain, probability)
        given += tuple(self.homeostasis or ())
        return [tensor for tensor in given if tensor is not None]
