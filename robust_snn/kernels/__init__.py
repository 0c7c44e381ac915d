"""Pure functions on tensors: the spiking loop, gates and counter-based random numbers."""

from robust_snn.kernels.gate import open_gates
from robust_snn.kernels.philox import derive_seed, philox, sample_keys
from robust_snn.kernels.spiking import (
    Activate,
    Assg,
    Bptr,
    Bptt,
    Dynamics,
    Gate,
    Hart,
    Noise,
    Pdsg,
    Rga,
    Rule,
    SharpnessMemory,
    Surrogate,
    spiking_loop,
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
    "derive_seed",
    "open_gates",
    "philox",
    "sample_keys",
    "spiking_loop",
]
