"""Catalogue of surrogate derivatives, each with the arguments and defaults of its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from robust_snn.kernels import Surrogate
from robust_snn.utils.errors import InputError
from robust_snn.utils.text_form import Textual


@dataclass(frozen=True)
class SurrogateFunction(Textual):
    """Base of the catalogue; every argument is a positive number, and a leak may be zero.

    Raises:
        InputError: If an argument is not a positive finite number.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            allowed = value > 0 or (value == 0 and field.name == "leak")
            if not (math.isfinite(value) and allowed):
                raise InputError(f"{field.name} of {self.name} must be positive, got {value:g}")

    def kernel(self) -> Surrogate:
        """The same derivative in the kernels' terms: shape, sharpness, scale and floor."""
        raise TypeError(f"{type(self).__name__} does not say what its kernel is")


@dataclass(frozen=True)
class Triangle(SurrogateFunction):
    """`max(0, gamma - |z|) / gamma^2` (SNN-RAT, StoG, HART, stable-snn, TET)."""

    name = "triangle"
    gamma: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("triangle", 1 / self.gamma)


@dataclass(frozen=True)
class PiecewiseQuadratic(SurrogateFunction):
    """`max(0, alpha - alpha^2 |z|)` (SpikingJelly; QGate of braincog and ASSG with alpha = 2)."""

    name = "piecewise_quadratic"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("triangle", self.alpha)


@dataclass(frozen=True)
class Rectangle(SurrogateFunction):
    """`[|z| < width / 2] / width` (STBP, tdBN)."""

    name = "rectangle"
    width: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("rectangle", 1 / self.width)


@dataclass(frozen=True)
class Atan(SurrogateFunction):
    """`(alpha / 2) / (1 + (pi alpha z / 2)^2)` (SpikingJelly, snnTorch)."""

    name = "atan"
    alpha: float = 2.0

    def kernel(self) -> Surrogate:
        return Surrogate("atan", self.alpha)


@dataclass(frozen=True)
class Sigmoid(SurrogateFunction):
    """`alpha sg(alpha z) (1 - sg(alpha z))` with the logistic function `sg` (SpikingJelly)."""

    name = "sigmoid"
    alpha: float = 4.0

    def kernel(self) -> Surrogate:
        return Surrogate("sigmoid", self.alpha)


@dataclass(frozen=True)
class Erf(SurrogateFunction):
    """`alpha exp(-(alpha z)^2) / sqrt(pi)` (SpikingJelly, NSNN)."""

    name = "erf"
    alpha: float = 2.0

    def kernel(self) -> Surrogate:
        return Surrogate("gaussian", self.alpha)


@dataclass(frozen=True)
class Gaussian(SurrogateFunction):
    """`exp(-(z / sigma)^2 / 2) / (sigma sqrt(2 pi))` (ASSG with alpha = 1 / sigma)."""

    name = "gaussian"
    sigma: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("gaussian", 1 / (self.sigma * math.sqrt(2)))


@dataclass(frozen=True)
class SoftSign(SurrogateFunction):
    """`alpha / (2 (1 + alpha |z|)^2)` (SpikingJelly)."""

    name = "softsign"
    alpha: float = 2.0

    def kernel(self) -> Surrogate:
        return Surrogate("softsign", self.alpha)


@dataclass(frozen=True)
class FastSigmoid(SurrogateFunction):
    """`1 / (1 + slope |z|)^2`, of peak one (snnTorch)."""

    name = "fast_sigmoid"
    slope: float = 25.0

    def kernel(self) -> Surrogate:
        return Surrogate("softsign", self.slope, scale=2 / self.slope)


@dataclass(frozen=True)
class SuperSpike(SurrogateFunction):
    """`alpha / (1 + |z|)^2`: `alpha` scales and does not sharpen (SpikingJelly)."""

    name = "superspike"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("softsign", 1.0, scale=2 * self.alpha)


@dataclass(frozen=True)
class PiecewiseExp(SurrogateFunction):
    """`alpha exp(-alpha |z|) / 2` (SpikingJelly)."""

    name = "piecewise_exp"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("exponential", self.alpha)


@dataclass(frozen=True)
class Exponential(SurrogateFunction):
    """`peak exp(-gamma |z|)` (RobustSNNConversion: EXP, and EXP-D with peak = 0.3)."""

    name = "exponential"
    gamma: float = 1.0
    peak: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("exponential", self.gamma, scale=2 * self.peak / self.gamma)


@dataclass(frozen=True)
class LogAbs(SurrogateFunction):
    """`1 / (1 / alpha + |z|)` (SpikingJelly's nonzero sign-log-abs)."""

    name = "log_abs"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("logarithm", self.alpha)


@dataclass(frozen=True)
class LeakyRectangle(SurrogateFunction):
    """`1 / (2 width)` for `|z| < width`, else `leak` (SpikingJelly's piecewise leaky ReLU)."""

    name = "leaky_rectangle"
    width: float = 1.0
    leak: float = 0.01

    def kernel(self) -> Surrogate:
        scale = 1 - 2 * self.width * self.leak
        return Surrogate("rectangle", 1 / (2 * self.width), scale, floor=self.leak)


@dataclass(frozen=True)
class LeakyReLU(SurrogateFunction):
    """`slope` at and above the threshold, `leak` below (SpikingJelly's leaky k-ReLU)."""

    name = "leaky_relu"
    slope: float = 1.0
    leak: float = 0.01

    def kernel(self) -> Surrogate:
        return Surrogate("step", 1.0, scale=self.slope - self.leak, floor=self.leak)


@dataclass(frozen=True)
class StraightThrough(SurrogateFunction):
    """One everywhere."""

    name = "ste"

    def kernel(self) -> Surrogate:
        return Surrogate("step", 1.0, scale=0.0, floor=1.0)


SURROGATES: dict[str, type[SurrogateFunction]] = {
    cls.name: cls
    for cls in (
        Triangle,
        PiecewiseQuadratic,
        Rectangle,
        Atan,
        Sigmoid,
        Erf,
        Gaussian,
        SoftSign,
        FastSigmoid,
        SuperSpike,
        PiecewiseExp,
        Exponential,
        LogAbs,
        LeakyRectangle,
        LeakyReLU,
        StraightThrough,
    )
}
