"""Attention of spikes on the CPU: one head at a time, whose matrices stay in its caches.

Spikes are packed to bits, whose coincidences are counted; these counts are multiplied by spikes.
"""

from robust_snn.kernels.attention.numba.launch import pays, run_attention

__all__ = ["pays", "run_attention"]
