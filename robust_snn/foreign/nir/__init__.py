"""Networks of NIR, the Neuromorphic Intermediate Representation (Nature Communications, 2024)."""

from robust_snn.foreign.nir.nir_file import is_nir
from robust_snn.foreign.nir.nir_net import NIRNet, load_nir

__all__ = ["NIRNet", "is_nir", "load_nir"]
