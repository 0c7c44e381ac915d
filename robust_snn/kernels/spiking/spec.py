"""What a spiking loop computes, as plain data that every backend reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    """Constants of the membrane equation.

        v[t] = decay * a[t] * u[t-1] + gain * b[t] * current[t]
        s[t] = [v[t] >= threshold]
        u[t] = v[t] * (1 - s[t]) + v_reset * s[t]  (hard)   or   v[t] - drop * s[t]  (soft)

    and the membrane starts at `v_reset` (hard) or 0 (soft).

    Attributes:
        decay: Leak per step, in (0, 1]; 1 is an integrate-and-fire neuron.
        threshold: Firing threshold; membranes are in its unit.
        gain: Factor on the current; SpikingJelly's `decay_input=True` is `gain = 1 - decay`.
        reset: `"hard"` sets the membrane to `v_reset`, `"soft"` subtracts `drop`.
        v_reset: Membrane after a hard reset.
        drop: What a soft reset subtracts, the threshold if left out; snnTorch's delayed reset,
            which comes after the leak, is `threshold / decay`.
    """

    decay: float = 1.0
    threshold: float = 1.0
    gain: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    v_reset: float = 0.0
    drop: float | None = None

    @property
    def jump(self) -> float:
        """Where a hard reset leads, or what a soft one adds."""
        if self.reset == "hard":
            return self.v_reset
        return -(self.threshold if self.drop is None else self.drop)


@dataclass(frozen=True)
class Surrogate:
    """Stand-in for the derivative of the step at `z = v - threshold`.

    It is `scale * sharpness * k(sharpness * z) + floor`.

    Attributes:
        family: Row of `surrogates.FAMILIES`, which names the unit shape `k`.
        sharpness: Inverse width.
        scale: Factor for catalogue entries that are not normalised.
        floor: Value far from the threshold, for entries that never vanish.
    """

    family: str
    sharpness: float
    scale: float = 1.0
    floor: float = 0.0


@dataclass(frozen=True)
class Bptt:
    """Exact backward recursion through time with a surrogate derivative.

    Attributes:
        surrogate: Derivative of the step function.
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
        sharpness: Replaces that of the surrogate, element by element; broadcasts to `[T, B, ...]`.
        compact: Whether compiled backends save one byte per neuron and step in place of the
            current: the spike, and in 7 bits where in the triangle's support the membrane is.
    """

    surrogate: Surrogate
    detach_reset: bool = False
    sharpness: Tensor | None = field(default=None, compare=False)
    compact: bool = False


@dataclass(frozen=True)
class Bptr:
    """Backward pass through rate: the gradient passes where the neuron fired at least once."""


@dataclass(frozen=True)
class Rga:
    """Rate gradient approximation: the slope of a piecewise linear rate of the time-mean current.

    The slope is `gamma` up to the rheobase `(1 - decay) threshold`, then constant so that the rate
    reaches one at `beta threshold`, and zero outside.
    """

    gamma: float = 0.2
    beta: float = 2.0

    def slopes(self, dynamics: Dynamics) -> tuple[float, float]:
        """The slopes below and above the rheobase."""
        below = self.gamma * (1 - dynamics.decay)
        above = 1 / dynamics.threshold - below
        return self.gamma, above / (dynamics.decay + self.beta - 1)


@dataclass(frozen=True)
class Hart:
    """Rate and temporal hybrid: at each step, the time mean of surrogate times upstream."""

    surrogate: Surrogate


@dataclass(frozen=True)
class Activate:
    """No spikes: every neuron is a static activation of its mean current, in thresholds.

    Attributes:
        levels: Steps of a quantised clip to [0, 1]; 0 stands for a ReLU.
    """

    levels: int = 0


FixedRule: TypeAlias = Bptt | Bptr | Rga | Hart


class Noise(NamedTuple):
    """Membrane noise: `s[t] ~ Bernoulli(F(v[t] - threshold))`.

    The density `F'` is a surrogate's shape, which makes that surrogate the exact local gradient of
    the firing probability.

    Attributes:
        family: Density: a row of `noise.CUMULATIVE`.
        sharpness: Inverse width of the density.
        keys: Sample keys `[B]`, int64.
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
        keys: Sample keys `[B]`, int64.
        layer: Address of the layer in the random stream.
        mean: Whether the gate's mean `p` stands in for its draws.
    """

    probability: Tensor
    keys: Tensor
    layer: int = 0
    mean: bool = False
