"""Membrane noises of noisy neurons, each with the argument and default of its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robust_snn.gradients.surrogates import SURROGATES, SurrogateFunction
from robust_snn.gradients.text import parse
from robust_snn.kernels import Surrogate


@dataclass(frozen=True)
class NoiseDensity(SurrogateFunction):
    """Base of the noises: a symmetric density of mean zero.

    As a surrogate it is the exact derivative of the firing probability, which is what noise-driven
    learning (NSNN) backpropagates.
    """


@dataclass(frozen=True)
class GaussianNoise(NoiseDensity):
    """Standard deviation `sigma`."""

    name = "gaussian"
    sigma: float = 0.3

    def kernel(self) -> Surrogate:
        return Surrogate("gaussian", 1 / (self.sigma * math.sqrt(2)))


@dataclass(frozen=True)
class LogisticNoise(NoiseDensity):
    """Standard deviation `scale pi / sqrt(3)`."""

    name = "logistic"
    scale: float = 0.4

    def kernel(self) -> Surrogate:
        return Surrogate("sigmoid", 1 / self.scale)


@dataclass(frozen=True)
class UniformNoise(NoiseDensity):
    """Uniform on `[-width, width]`: standard deviation `width / sqrt(3)`."""

    name = "uniform"
    width: float = 0.4

    def kernel(self) -> Surrogate:
        return Surrogate("rectangle", 1 / (2 * self.width))


@dataclass(frozen=True)
class TriangularNoise(NoiseDensity):
    """Triangle on `[-width, width]`: standard deviation `width / sqrt(6)`."""

    name = "triangular"
    width: float = 0.6

    def kernel(self) -> Surrogate:
        return Surrogate("triangle", 1 / self.width)


@dataclass(frozen=True)
class ArctanNoise(NoiseDensity):
    """Cauchy noise `(alpha / 2) / (1 + (pi alpha z / 2)^2)`, without a standard deviation."""

    name = "arctan"
    alpha: float = 2.0

    def kernel(self) -> Surrogate:
        return Surrogate("atan", self.alpha)


NOISES: dict[str, type[NoiseDensity]] = {
    cls.name: cls
    for cls in (GaussianNoise, LogisticNoise, UniformNoise, TriangularNoise, ArctanNoise)
}


def parse_noise(noise: str | NoiseDensity) -> NoiseDensity:
    """Reads a noise from its text form, such as `"gaussian(sigma=0.3)"`.

    Raises:
        InputError: If a name or argument is not known; the message offers the nearest match.
    """
    if isinstance(noise, NoiseDensity):
        return noise
    return parse(noise, "membrane noise", NOISES, SURROGATES)
