"""Catalogue of surrogate derivatives, each with the argument and default of its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from robust_snn.errors import InputError
from robust_snn.gradients.text import Textual
from robust_snn.kernels import Surrogate


@dataclass(frozen=True)
class SurrogateFunction(Textual):
    """Base of the catalogue; every argument is a positive number.

    Raises:
        InputError: If an argument is not a positive finite number.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{field.name} of {self.name} must be positive, got {value:g}")

    def kernel(self) -> Surrogate:
        """The same derivative in the kernels' terms: shape, sharpness and scale."""
        raise TypeError(f"{type(self).__name__} does not say what its kernel is")


@dataclass(frozen=True)
class Triangle(SurrogateFunction):
    """`max(0, gamma - |z|) / gamma^2` (SNN-RAT, StoG, HART, stable-snn, TET)."""

    name = "triangle"
    gamma: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("triangle", 1 / self.gamma)


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


SURROGATES: dict[str, type[SurrogateFunction]] = {
    cls.name: cls for cls in (Triangle, Rectangle, Atan, Sigmoid)
}
