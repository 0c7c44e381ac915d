"""Convolutions over time as attacks run them, dense and event-driven."""

from robust_snn.kernels.convolution.api import SPARSE, can_convolve, convolve

__all__ = ["SPARSE", "can_convolve", "convolve"]
