"""The fused spiking loop: one forward for every gradient mode, a backward for each kind of rule."""

from robust_snn.kernels.spiking.adaptive_surrogates import (
    AdaptiveSurrogate,
    LayerStatistics,
    SharpnessByDistance,
    SharpnessMemory,
    WidthBySpread,
)
from robust_snn.kernels.spiking.api import Rule, spiking_loop
from robust_snn.kernels.spiking.rules import (
    Activate,
    RateSlope,
    Recursion,
    Surrogate,
    TimeAverage,
)
from robust_snn.kernels.spiking.spec import Dynamics, Gate, Homeostasis, NoisyFiring

__all__ = [
    "Activate",
    "AdaptiveSurrogate",
    "Dynamics",
    "Gate",
    "Homeostasis",
    "LayerStatistics",
    "NoisyFiring",
    "RateSlope",
    "Recursion",
    "Rule",
    "SharpnessByDistance",
    "SharpnessMemory",
    "Surrogate",
    "TimeAverage",
    "WidthBySpread",
    "spiking_loop",
]
