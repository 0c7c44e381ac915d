"""The spiking loop on GPUs: one program takes a block of neurons through all steps in registers.

Under `TRITON_INTERPRET=1` the same kernels run on CPU tensors, slowly, as a test of themselves.
"""

from robust_snn.kernels.spiking.triton.launch import run_backward, run_forward, run_membranes

__all__ = ["run_backward", "run_forward", "run_membranes"]
