"""Uniform draws by the fastest backend, bit for bit those of `draw_uniform`."""

from __future__ import annotations

from torch import Tensor

from robust_snn.kernels.backend import auto_runs
from robust_snn.kernels.philox import Purpose, draw_uniform


def fast_uniform(
    keys: Tensor, shape: tuple[int, ...], steps: int, layer: int, purpose: Purpose
) -> Tensor:
    """`draw_uniform`, by Numba where the keys are in memory and nothing records operations.

    A kernel needs a twentieth of the time, since PyTorch passes over memory for each of the hundred
    operations on a word.
    """
    if not auto_runs("numba", keys):
        return draw_uniform(keys, shape, steps, layer, purpose)
    from robust_snn.kernels.numba_tools.uniform_blocks import run_draws

    return run_draws(keys, shape, steps, layer, purpose)
