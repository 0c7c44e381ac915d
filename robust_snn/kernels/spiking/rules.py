"""Rules that turn a gradient on spikes into a gradient on currents, by what they do to time.

There are three kinds of rule for a spiking loop, and every backend implements each of them:

    Recursion     back through time step by step, with a surrogate derivative for each spike
    RateSlope     one slope per neuron, the same at every step, from its spikes or its mean drive
    TimeAverage   surrogate times upstream, averaged over the steps

A gradient mode of `robust_snn.gradients` makes one of them. A rule never changes a spike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor


@dataclass(frozen=True)
class Surrogate:
    """Stand-in for the derivative of the step at `z = v - threshold`.

    It is `scale * sharpness * k(sharpness * z) + floor`.

    Attributes:
        family: Row of `surrogate_shapes.UNIT_SHAPES`, which names the unit shape `k`.
        sharpness: Inverse width.
        scale: Factor for catalogue entries that are not normalised.
        floor: Value far from the threshold, for entries that never vanish.
    """

    family: str
    sharpness: float
    scale: float = 1.0
    floor: float = 0.0


@dataclass(frozen=True)
class Recursion:
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
class RateSlope:
    """One slope per neuron: at every step, the gradient on the drive is slope times upstream.

    Without `edges` the slope is that of neurons that fired at least once, and zero for others.
    With them it depends on the mean drive over time, `gain * current` after all factors: `slope`
    in `(0, edges[0]]`, `upper_slope` in `(edges[0], edges[1]]`, and zero elsewhere.

    Attributes:
        slope: Slope of the rate per unit of drive.
        upper_slope: The slope above the first edge.
        edges: Two values of the mean drive, in the unit of the threshold.
    """

    slope: float
    upper_slope: float = 0.0
    edges: tuple[float, float] | None = None


@dataclass(frozen=True)
class TimeAverage:
    """At every step, the mean over time of surrogate times upstream.

    Attributes:
        surrogate: Derivative of the step function.
    """

    surrogate: Surrogate


TimeRule: TypeAlias = Recursion | RateSlope | TimeAverage

TRIANGLE_RECURSION = Recursion(Surrogate("triangle", 1.0))  # of the default gradient mode


@dataclass(frozen=True)
class Activate:
    """No spikes: every neuron is a static activation of its mean current, in thresholds.

    Attributes:
        levels: Steps of a quantised clip to [0, 1]; 0 stands for a ReLU.
    """

    levels: int = 0
