"""The fused spiking loop: one forward for every gradient mode, a backward for each."""

from robust_snn.kernels.spiking.adaptive_surrogates import Assg, Pdsg, SharpnessMemory
from robust_snn.kernels.spiking.api import Rule, spiking_loop
from robust_snn.kernels.spiking.spec import (
    Activate,
    Bptr,
    Bptt,
    Dynamics,
    Gate,
    Hart,
    Noise,
    Rga,
    Surrogate,
)

__all__ = [
    "Activate",
    "Assg",
    "Bptr",
    "Bptt",
    "Dynamics",
    "Gate",
    "Hart",
    "Noise",
    "Pdsg",
    "Rga",
    "Rule",
    "SharpnessMemory",
    "Surrogate",
    "spiking_loop",
]
