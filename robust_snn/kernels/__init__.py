"""Pure functions on tensors: spiking loops, attention, convolutions over time, random numbers."""

from robust_snn.kernels.attention.api import attend
from robust_snn.kernels.convolution.api import SPARSE, can_convolve, convolve
from robust_snn.kernels.philox import derive_seed, philox, sample_keys
from robust_snn.kernels.spiking.adaptive_surrogates import (
    LayerStatistics,
    SharpnessByDistance,
    SharpnessMemory,
    WidthBySpread,
)
from robust_snn.kernels.spiking.api import Rule, spiking_loop
from robust_snn.kernels.spiking.gate import open_gates
from robust_snn.kernels.spiking.rules import Activate, RateSlope, Recursion, Surrogate, TimeAverage
from robust_snn.kernels.spiking.spec import Dynamics, Gate, Homeostasis, NoisyFiring

__all__ = [
    "SPARSE",
    "Activate",
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
    "attend",
    "can_convolve",
    "convolve",
    "derive_seed",
    "open_gates",
    "philox",
    "sample_keys",
    "spiking_loop",
]
