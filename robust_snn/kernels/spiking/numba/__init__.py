"""The spiking loop on the CPU: compiled kernels over blocks of neurons.

A block of one sample goes through all time steps while its membranes stay in the first-level
cache, so every value of the current is read once from memory and every spike written once.
"""

from robust_snn.kernels.spiking.numba.launch import run_backward, run_forward, run_membranes

__all__ = ["run_backward", "run_forward", "run_membranes"]
