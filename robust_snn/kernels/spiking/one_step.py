"""What gradient modes compute for one time step of a network that runs its neurons by itself.

Large float32 steps on a CPU go through Numba in one pass over memory, all others through PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.backend import choose_backend
from robust_snn.kernels.blocks import blockwise_product
from robust_snn.kernels.spiking.codes import Shape
from robust_snn.kernels.spiking.rules import Surrogate
from robust_snn.kernels.spiking.surrogate_shapes import derivative

WORTH = 1 << 12  # neurons of a sample at least, however many samples, for which compiling pays


class SlopeArgs(NamedTuple):
    """What `slopes.fill_slopes` is told, and the jump of the step function."""

    threshold: float
    surrogate_shape: int
    surrogate_scale: float
    surrogate_floor: float
    jump: float


def in_one_pass(*steps: Tensor) -> bool:
    """Whether steps `[B, ...]` of one shape go through Numba."""
    first = steps[0]
    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return False
    if first.dim() < 2 or first.shape[1:].numel() < WORTH:
        return False
    if any(s.dtype != torch.float32 or not s.is_contiguous() for s in steps):
        return False
    return len(first) > 0 and choose_backend("auto", *steps) == "numba"


def slope_product(
    upstream: Tensor,
    membrane: Tensor,
    edge: float,
    jump: float,
    surrogate: Surrogate,
    sharpness: Tensor | float,
) -> Tensor:
    """Upstream times the surrogate derivative of a step function, `[B, ...]`.

    Args:
        upstream: Gradient of the spikes.
        membrane: The membrane, of the same shape.
        edge: Where the function jumps.
        jump: By how much.
        surrogate: Its derivative.
        sharpness: One number, one for each neuron, or `[B, C, 1, ...]`.
    """
    width = _width(membrane, sharpness)
    if not width or not in_one_pass(upstream, membrane):

        def slope(membrane: Tensor, *map_: Tensor) -> Tensor:
            z = membrane if edge == 0 else membrane - edge
            found = derivative(z, surrogate, *(map_ or (sharpness,)))
            return found if jump == 1 else found * jump

        maps = [sharpness] if isinstance(sharpness, Tensor) else []
        return blockwise_product(slope, upstream, membrane, *maps)
    from robust_snn.kernels.numba_tools.threads import run_blocks
    from robust_snn.kernels.spiking.numba import one_step

    code = Shape[surrogate.family.upper()]
    args = SlopeArgs(edge, int(code), surrogate.scale, surrogate.floor, jump)
    out = torch.empty_like(membrane)
    rows = membrane.numel() // width
    if not isinstance(sharpness, Tensor):
        sharpness = torch.full((1,), sharpness)
    flat = (t.detach().reshape(-1).numpy() for t in (upstream, membrane, sharpness, out))
    tasks = rows * -(-width // one_step.BLOCK)
    run_blocks(one_step.slope_products, tasks, 2 * membrane.numel(), args, width, *flat)
    return out


def _width(membrane: Tensor, sharpness: Tensor | float) -> int:
    """How many neurons in a row share a sharpness, all of them if none is shared; 0 if none do."""
    if not isinstance(sharpness, Tensor):
        return membrane.numel()
    if sharpness.dtype != torch.float32 or sharpness.dim() != membrane.dim():
        return 0
    if sharpness.shape == membrane.shape:
        return membrane.numel()
    own = next((d for d, n in enumerate(sharpness.shape) if n == 1), sharpness.dim())
    if sharpness.shape[:own] != membrane.shape[:own] or sharpness.shape[own:].numel() > 1:
        return 0
    return membrane.shape[own:].numel()


def row_sums(z: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Sums of `z` over rows of `width` neurons and of its square, in double precision."""
    from robust_snn.kernels.numba_tools.threads import run_blocks
    from robust_snn.kernels.spiking.numba import one_step

    rows = z.numel() // width
    out = torch.empty(2, rows, dtype=torch.float64)
    run_blocks(
        one_step.sums, rows, 2 * z.numel(), width, z.detach().reshape(-1).numpy(), out.numpy()
    )
    return out[0], out[1]


def running_distances(z: Tensor, running: Sequence[Tensor], beta: float) -> None:
    """A step of the running mean of the distance `|z|` and of the mean deviation from it.

    Args:
        z: The step.
        running: Mean and deviation; they change.
        beta: Decay.
    """
    _over_blocks("distances", (beta, 1 - beta), z, *running)


def running_drive(
    membrane: Tensor, spikes: Tensor, drive: Tensor, carried: Tensor, *constants: float
) -> None:
    """Adds to `drive` what entered a membrane, and lets `carried` be what it leaves to the next.

    Args:
        membrane: The membrane before it fires.
        spikes: Its spikes.
        drive: The sum so far; it changes.
        carried: What the step before left, counted from the threshold; it changes.
        *constants: Threshold, level without a spike, jump to that of a spike, decay, what a spike
            changes of it and adds to the membrane, and the leak of the threshold.
    """
    _over_blocks("drives", constants, membrane, spikes, drive, carried)


def _over_blocks(name: str, constants: tuple[float, ...], *steps: Tensor) -> None:
    from robust_snn.kernels.numba_tools.threads import run_blocks
    from robust_snn.kernels.spiking.numba import one_step

    numbers = tuple(np.float32(constant) for constant in constants)
    flat = (step.detach().view(-1).numpy() for step in steps)
    tasks = -(-steps[0].numel() // one_step.BLOCK)
    run_blocks(getattr(one_step, name), tasks, 2 * steps[0].numel(), numbers, *flat)
