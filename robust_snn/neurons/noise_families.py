"""Distributions of membrane noise, read from and printed as text such as `gaussian(sigma=0.3)`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.gradients import SurrogateFunction
from robust_snn.gradients.surrogates import Atan, Gaussian, Rectangle, Sigmoid, Triangle
from robust_snn.utils.errors import InputError
from robust_snn.utils.text_form import Textual, parse


@dataclass(frozen=True)
class NoiseFamily(Textual):
    """Base of the distributions of membrane noise: symmetric around zero.

    Raises:
        InputError: If an argument is not a positive finite number.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} of {self.name} noise must be positive, got {value:g}")

    def density(self) -> SurrogateFunction:
        """The density, which is the surrogate derivative of noise-driven learning."""
        raise TypeError(f"{type(self).__name__} does not say what its density is")

    def quantile(self, u: Tensor) -> Tensor:
        """The noise at the uniform draws `u` in (0, 1)."""
        raise TypeError(f"{type(self).__name__} does not say how it is sampled")


@dataclass(frozen=True)
class GaussianNoise(NoiseFamily):
    """Gaussian noise.

    Attributes:
        sigma: Standard deviation; 0.3 for images and 0.2 for DVS-CIFAR in the paper.
    """

    name = "gaussian"
    sigma: float = 0.3

    def density(self) -> SurrogateFunction:
        return Gaussian(self.sigma)

    def quantile(self, u: Tensor) -> Tensor:
        return self.sigma * math.sqrt(2) * torch.erfinv(2 * u - 1)


@dataclass(frozen=True)
class LogisticNoise(NoiseFamily):
    """Logistic noise of a given standard deviation `sigma`; its scale is `sigma sqrt(3) / pi`."""

    name = "logistic"
    sigma: float = 0.3

    @property
    def scale(self) -> float:
        return self.sigma * math.sqrt(3) / math.pi

    def density(self) -> SurrogateFunction:
        return Sigmoid(1 / self.scale)

    def quantile(self, u: Tensor) -> Tensor:
        return self.scale * torch.log(u / (1 - u))


@dataclass(frozen=True)
class UniformNoise(NoiseFamily):
    """Uniform noise of a given standard deviation `sigma`, on `+-sigma sqrt(3)`."""

    name = "uniform"
    sigma: float = 0.3

    @property
    def half_width(self) -> float:
        return self.sigma * math.sqrt(3)

    def density(self) -> SurrogateFunction:
        return Rectangle(2 * self.half_width)

    def quantile(self, u: Tensor) -> Tensor:
        return self.half_width * (2 * u - 1)


@dataclass(frozen=True)
class TriangularNoise(NoiseFamily):
    """Triangular noise of a given standard deviation `sigma`, on `+-sigma sqrt(6)`."""

    name = "triangular"
    sigma: float = 0.3

    @property
    def half_base(self) -> float:
        return self.sigma * math.sqrt(6)

    def density(self) -> SurrogateFunction:
        return Triangle(self.half_base)

    def quantile(self, u: Tensor) -> Tensor:
        distance = 1 - torch.sqrt(1 - (2 * u - 1).abs())
        return self.half_base * torch.copysign(distance, 2 * u - 1)


@dataclass(frozen=True)
class ArctanNoise(NoiseFamily):
    """Cauchy noise, whose distribution is an arctangent; it has no standard deviation.

    Attributes:
        alpha: Sharpness; half of the noise lies within `+-2 / (pi alpha)`.
    """

    name = "arctan"
    alpha: float = 4.0

    def density(self) -> SurrogateFunction:
        return Atan(self.alpha)

    def quantile(self, u: Tensor) -> Tensor:
        return 2 / (math.pi * self.alpha) * torch.tan(math.pi * (u - 0.5))


NOISES: dict[str, type[NoiseFamily]] = {
    cls.name: cls
    for cls in (GaussianNoise, LogisticNoise, UniformNoise, TriangularNoise, ArctanNoise)
}


def parse_noise(noise: str | NoiseFamily) -> NoiseFamily:
    """Reads a noise from its text form, such as `"gaussian(sigma=0.3)"`.

    Raises:
        InputError: If a name or argument is not known; the message offers the nearest match.
    """
    if isinstance(noise, NoiseFamily):
        return noise
    return parse(noise, "membrane noise", NOISES, {})
