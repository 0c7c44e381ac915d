"""Surrogate derivatives and gradient modes, read from and printed as text."""

from robust_snn.gradients.modes import BPTR, BPTT, MODES, GradientMode, gradient_mode, parse_mode
from robust_snn.gradients.surrogates import (
    SURROGATES,
    Atan,
    Rectangle,
    Sigmoid,
    SurrogateFunction,
    Triangle,
)

__all__ = [
    "BPTR",
    "BPTT",
    "MODES",
    "SURROGATES",
    "Atan",
    "GradientMode",
    "Rectangle",
    "Sigmoid",
    "SurrogateFunction",
    "Triangle",
    "gradient_mode",
    "parse_mode",
]
