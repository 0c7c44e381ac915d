"""Gradient modes: rules that turn a gradient on spikes into a gradient on currents."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from robust_snn.gradients.activations import ACTIVATIONS, QCFS, ActivationFunction, ReLU
from robust_snn.gradients.surrogates import (
    SURROGATES,
    StraightThrough,
    SurrogateFunction,
    Triangle,
)
from robust_snn.kernels import (
    Activate,
    Dynamics,
    LayerStatistics,
    RateSlope,
    Recursion,
    Rule,
    SharpnessByDistance,
    SharpnessMemory,
    TimeAverage,
    WidthBySpread,
)
from robust_snn.kernels.spiking.surrogate_shapes import SHARES
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.text_form import Textual, parse


@dataclass(frozen=True)
class GradientMode(Textual):
    """Base of the modes. A mode never changes a spike, only the backward pass.

    Attributes:
        other_forward: Whether it replaces spikes, so that it must never score an attack.
        accumulates: Whether its gradient depends on the earlier passes of an attack run.

    Raises:
        InputError: If a number is not positive and finite.
    """

    other_forward: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False

    @property
    def mixes_images(self) -> bool:
        """Whether an image's gradient depends on the others of its batch."""
        return False

    def __post_init__(self) -> None:
        for argument in fields(self):
            value = getattr(self, argument.name)
            if isinstance(value, float) and not (math.isfinite(value) and value > 0):
                raise InputError(f"{argument.name} of {self.name} must be positive, got {value:g}")

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        """The mode as a rule of the kernels.

        Args:
            dynamics: Constants of the neurons.
            statistics: What the layer has learned in the attack run, for modes that accumulate
                some; without it every pass is a run of its own.
        """
        raise TypeError(f"{type(self).__name__} does not say what its rule is")


@dataclass(frozen=True)
class BPTT(GradientMode):
    """Backpropagation through time with a surrogate derivative.

    Attributes:
        surrogate: Stand-in for the derivative of the step function.
        detach_reset: Whether the gradient ignores that a spike resets the membrane. Published code
            differs in this: SNN-RAT, StoG and HART keep the path, ASSG cuts it.
        save: What a forward pass keeps for the backward pass: `"current"`, or with the triangle
            `"compact"`, a byte per neuron and step that rounds the membrane to 7 bits.
    """

    name = "bptt"
    surrogate: SurrogateFunction = field(default_factory=Triangle)
    detach_reset: bool = False
    save: Literal["current", "compact"] = field(default="current", repr=False)

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        compact = self.save == "compact"
        return Recursion(self.surrogate.kernel(), self.detach_reset, compact=compact)


@dataclass(frozen=True)
class STE(GradientMode):
    """Straight-through: backpropagation through time as if the step function had slope one."""

    name = "ste"

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        return Recursion(StraightThrough().kernel())


@dataclass(frozen=True)
class BPTR(GradientMode):
    """Backward pass through rate (SNN-RAT, NeurIPS 2022): passes where a neuron fired at all.

    The slope is `gain / threshold`, the true slope of the rate of an integrate-and-fire neuron.
    """

    name = "bptr"

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        return RateSlope(1 / dynamics.unit)


@dataclass(frozen=True)
class RGA(GradientMode):
    """Rate gradient approximation (CVPR 2023): slope of a piecewise linear rate.

    The current's gain and the threshold enter the slope and its edges, unlike in released code. The
    rate of neurons with several levels is taken as linear up to the largest.

    Attributes:
        gamma: Slope below the rheobase.
        beta: Mean current, in thresholds, at which the rate reaches one.
    """

    name = "rga"
    gamma: float = 0.2
    beta: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 1:
            raise InputError(f"beta of rga must be above 1, got {self.beta:g}")

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        if dynamics.levels > 1:
            slope = 1 / dynamics.unit
            return RateSlope(slope, slope, edges=(0.0, dynamics.levels * dynamics.unit))
        rheobase = (1 - dynamics.decay) * dynamics.threshold
        below = self.gamma * (1 - dynamics.decay)  # the rate at the rheobase, per threshold
        above = (1 / dynamics.threshold - below) / (dynamics.decay + self.beta - 1)
        return RateSlope(self.gamma, above, edges=(rheobase, self.beta * dynamics.threshold))


@dataclass(frozen=True)
class HART(GradientMode):
    """Rate and temporal hybrid (ICLR 2024): surrogate times upstream, averaged over time.

    Attributes:
        gamma: Half the base of the triangle; smaller keeps more temporal information.
    """

    name = "hart"
    gamma: float = 1.0

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        return TimeAverage(Triangle(self.gamma).kernel())


@dataclass(frozen=True)
class PDSG(GradientMode):
    """Potential-dependent surrogate (CVPR 2025): a Gaussian as wide as the membranes.

    Attributes:
        scope: `"batch"` reproduces the paper, and the gradient of an image then depends on
            the others; `"sample"` measures each image alone.
    """

    name = "pdsg"
    scope: Literal["sample", "batch"] = "sample"

    @property
    def mixes_images(self) -> bool:
        return self.scope == "batch"

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        return WidthBySpread(self.scope)


@dataclass(frozen=True)
class ASSG(GradientMode):
    """Adaptive sharpness (arXiv 2512.22522): each surrogate as wide as its neuron's distance.

    The running statistics belong to an attack run and neither to this object nor to the net: a
    `Victim` owns them, and `gradient_mode` keeps them for the length of its context.

    Attributes:
        family: Shape of the surrogate: a row of `surrogate_shapes.SHARES`.
        a: Degree of vanishing in (0, 1) that the sharpness aims at (the released code's 0.425 for
            the arctangent is 0.85 here).
        relax: Weight of the mean deviation in the distance.
        beta: Decay of the running statistics, in (0, 1).
    """

    name = "assg"
    accumulates = True
    family: str = "atan"
    a: float = 0.85
    relax: float = 1.5
    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.family not in SHARES:
            raise unknown("family of assg", self.family, SHARES)
        for name in ("a", "beta"):
            if getattr(self, name) >= 1:
                raise InputError(f"{name} of assg must be below 1, got {getattr(self, name):g}")

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        omega = SHARES[self.family].distance(self.a)
        statistics = statistics or LayerStatistics(SharpnessMemory(), "")
        return SharpnessByDistance(self.family, omega, self.relax, self.beta, statistics)


@dataclass(frozen=True)
class Activation(GradientMode):
    """Conversion-based: every neuron becomes an activation of its mean current.

    Loss and gradient are those of the rate-equivalent network without time. It is the one mode
    with another forward pass, so it crafts attacks and never scores them.

    Attributes:
        function: `relu`, or `qcfs(levels=8)` with a straight-through gradient in [0, 1].
    """

    name = "activation"
    positional = True
    other_forward = True
    function: ActivationFunction = field(default_factory=ReLU)

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        levels = self.function.levels if isinstance(self.function, QCFS) else 0
        return Activate(levels)


@dataclass(frozen=True)
class Own(GradientMode):
    """The gradient that a network of other people has by itself."""

    name = "own"

    def rule(self, dynamics: Dynamics, statistics: LayerStatistics | None = None) -> Rule:
        raise InputError(
            "gradient mode 'own' is for other people's networks: robust_snn.adapt(net)"
        )


MODES: dict[str, type[GradientMode]] = {
    cls.name: cls for cls in (BPTT, STE, BPTR, RGA, HART, PDSG, ASSG, Activation)
}


def parse_mode(mode: str | GradientMode) -> GradientMode:
    """Reads a gradient mode from its text form, such as `"bptt(surrogate=atan(alpha=4))"`.

    Raises:
        InputError: If a name or argument is not known; the message offers the nearest match.
    """
    if isinstance(mode, GradientMode):
        return mode
    return parse(mode, "gradient mode", {**MODES, Own.name: Own}, {**SURROGATES, **ACTIVATIONS})
