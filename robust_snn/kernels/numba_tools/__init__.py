"""How Numba compiles kernels, shares them out to threads, and reads half precision."""
