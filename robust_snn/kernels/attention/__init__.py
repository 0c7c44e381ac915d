"""Self-attention of spikes: a plain reference, `numba/` and `triton/` side by side."""
