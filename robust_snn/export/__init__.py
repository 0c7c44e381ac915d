"""Our networks in the files of others: NIR graphs."""

from robust_snn.export.nir_graph import nir

__all__ = ["nir"]
