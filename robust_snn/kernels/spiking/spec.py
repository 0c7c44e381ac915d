"""What a spiking loop computes, as plain data that every backend reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    """Constants of the membrane equation.

        v[t] = decay * a[t] * u[t-1] + gain * b[t] * current[t]
        s[t] = [v[t] >= threshold]
        u[t] = v[t] * (1 - s[t]) + v_reset * s[t]  (hard)   or   v[t] - threshold * s[t]  (soft)

    and the membrane starts at `v_reset` (hard) or 0 (soft).

    Attributes:
        decay: Leak per step, in (0, 1]; 1 is an integrate-and-fire neuron.
        threshold: Firing threshold; membranes are in its unit.
        gain: Factor on the current; SpikingJelly's `decay_input=True` is `gain = 1 - decay`.
        reset: `"hard"` sets the membrane to `v_reset`, `"soft"` subtracts the threshold.
        v_reset: Membrane after a hard reset.
    """

    decay: float = 1.0
    threshold: float = 1.0
    gain: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    v_reset: float = 0.0


@dataclass(frozen=True)
class Surrogate:
    """Stand-in for the derivative of the step at `z = v - threshold`.

    It is `scale * sharpness * k(sharpness * z)`.

    Attributes:
        family: Row of `surrogates.FAMILIES`, which names the unit shape `k`.
        sharpness: Inverse width.
        scale: Factor for catalogue entries that are not normalised.
    """

    family: str
    sharpness: float
    scale: float = 1.0


@dataclass(frozen=True)
class Bptt:
    """Exact backward recursion through time with a surrogate derivative."""

    surrogate: Surrogate
    detach_reset: bool = False


@dataclass(frozen=True)
class Bptr:
    """Backward pass through rate: the gradient passes where the neuron fired at least once."""


Rule: TypeAlias = Bptt | Bptr


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
