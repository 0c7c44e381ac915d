"""How fast the kernels are: against plain loops, other libraries, and what the machine allows."""

from robust_snn.benchmarks.parts import PARTS, run_device_part, run_part

__all__ = ["PARTS", "run_device_part", "run_part"]
