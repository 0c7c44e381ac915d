"""Attention on GPUs: both products, the split into heads and the scale in one launch."""

from robust_snn.kernels.attention.triton.launch import run_attention

__all__ = ["run_attention"]
