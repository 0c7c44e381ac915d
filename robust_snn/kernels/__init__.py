"""Pure functions on tensors: the spiking loop, convolutions over time, gates, random numbers."""

from robust_snn.kernels.convolution import (
    SPARSE,
    convolution_view,
    convolve,
    current_view,
    in_convolution_view,
)
from robust_snn.kernels.philox import derive_seed, philox, sample_keys
from robust_snn.kernels.spiking import (
    Activate,
    AdaptiveSurrogate,
    Dynamics,
    Gate,
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
    "NoisyFiring",
    "RateSlope",
    "Recursion",
    "Rule",
    "SharpnessByDistance",
    "SharpnessMemory",
    "Surrogate",
    "TimeAverage",
    "WidthBySpread",
    "convolution_view",
    "convolve",
    "current_view",
    "derive_seed",
    "in_convolution_view",
    "open_gates",
    "philox",
    "sample_keys",
    "spiking_loop",
]
