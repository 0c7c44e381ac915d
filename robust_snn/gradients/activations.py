"""Static activations that stand in for spiking neurons in the conversion-based mode."""

from __future__ import annotations

from dataclasses import dataclass

from robust_snn.utils.errors import InputError
from robust_snn.utils.text_form import Textual


@dataclass(frozen=True)
class ActivationFunction(Textual):
    """Base of the activations."""


@dataclass(frozen=True)
class ReLU(ActivationFunction):
    """`max(0, I)` of the mean current in thresholds."""

    name = "relu"


@dataclass(frozen=True)
class QCFS(ActivationFunction):
    """`floor(levels clip(I, 0, 1) + 1/2) / levels`, with the gradient of the clip (RGA, HART).

    Raises:
        InputError: If `levels` is not positive.
    """

    name = "qcfs"
    levels: int = 8

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise InputError(f"levels of qcfs must be positive, got {self.levels}")


ACTIVATIONS: dict[str, type[ActivationFunction]] = {cls.name: cls for cls in (ReLU, QCFS)}
