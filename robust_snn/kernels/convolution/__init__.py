"""Convolutions over time as attacks run them, dense and event-driven."""

from robust_snn.kernels.convolution.api import (
    SPARSE,
    convolution_view,
    convolve,
    current_view,
    in_convolution_view,
)

__all__ = ["SPARSE", "convolution_view", "convolve", "current_view", "in_convolution_view"]
