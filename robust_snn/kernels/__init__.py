"""Pure functions on tensors: the spiking loop, convolutions over time, gates, random numbers."""

from robust_snn.kernels.convolution import SPARSE, can_convolve, convolve
from robust_snn.kernels.philox import derive_seed, philox, sample_keys
from robust_snn.kernels.spiking import (
    Activate,
    AdaptiveSurrogate,
    Dynamics,
    Gate,
    Homeostasis,
    LayerStatistics,
    NoisyFiring,
    RateSlope,
    Recursion,
    Rule,
    SharpnessByDistance,
    SharpnessMemory,
    Surrogate,
    TimeAverage,
    WidthBySpread,
    spiking_loop,
)
from robust_snn.kernels.spiking.gate import open_gates

__all__ = [
    "SPARSE",
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
    "can_convolve",
    "convolve",
    "derive_seed",
    "open_gates",
    "philox",
    "sample_keys",
    "spiking_loop",
]
