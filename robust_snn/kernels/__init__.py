"""Pure functions on tensors: the spiking loop, gates and counter-based random numbers."""

from robust_snn.kernels.gate import open_gates
from robust_snn.kernels.philox import derive_seed, philox, sample_keys
from robust_snn.kernels.spiking import (
    Bptr,
    Bptt,
    Dynamics,
    Gate,
    Rule,
    Surrogate,
    spiking_loop,
)

__all__ = [
    "Bptr",
    "Bptt",
    "Dynamics",
    "Gate",
    "Rule",
    "Surrogate",
    "derive_seed",
    "open_gates",
    "philox",
    "sample_keys",
    "spiking_loop",
]
