"""How fast the kernels are: against plain loops, other libraries, and what the machine allows."""

from robust_snn.benchmarks.run import PARTS, run

__all__ = ["PARTS", "run"]
