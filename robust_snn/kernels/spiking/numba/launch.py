"""From tensors to kernels: lays out the arguments and allocates the results."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.layout import (
    empty_stack,
    is_channels_last,
    logical_view,
    storage_sample,
    storage_view,
)
from robust_snn.kernels.numba_tools.half_precision import bit_patterns
from robust_snn.kernels.numba_tools.threads import run_blocks
from robust_snn.kernels.spiking.firing_probability import CUMULATIVE, firing_table
from robust_snn.kernels.spiking.kernel_args import (
    Back,
    Mode,
    Parameters,
    Plan,
    Zoning,
    zone_steps,
)
from robust_snn.kernels.spiking.numba.backward import spiking_backward
from robust_snn.kernels.spiking.numba.forward import (
    BLOCK,
    membrane_trace,
    plain_forward,
    spiking_forward,
)
from robust_snn.kernels.spiking.surrogate_shapes import FAMILIES

_TRIANGLE = list(FAMILIES).index("triangle")  # of `Plan.family`
_NO_AFFINE, _NO_GATE = np.zeros((2, 0), np.float32), np.zeros(0, np.float32)
_NO_TABLE = np.zeros(0, np.float32)
_NO_SHARPNESS = np.zeros((0, 0, 0), np.float32)


def _flat(tensor: Tensor, leading: int = 2) -> Tensor:
    """`[T, B, ...]` as `[T, B, N]`, also where a dimension is zero."""
    return tensor.reshape(*tensor.shape[:leading], tensor.shape[leading:].numel())


def _array(tensor: Tensor, last: bool) -> np.ndarray:
    """`[T, B, ...]` as `[T, B, N]` in storage order; see `bit_patterns`.

    Without a copy if it is in that order, or expanded over time.
    """
    if tensor.stride(0) == 0:
        tensor = tensor[:1]
    return bit_patterns(_flat(storage_view(tensor.detach(), last)))


@lru_cache(maxsize=64)
def _order(sample: torch.Size, last: bool) -> np.ndarray:
    """Number of each neuron in the random stream, in storage order: draws ignore the layout."""
    numbers = torch.arange(sample.numel()).view(1, 1, *sample)
    return storage_view(numbers, last).flatten().numpy().astype(np.uint32)


def _tasks(tensor: Tensor) -> int:
    """Number of blocks over all samples."""
    return tensor.shape[1] * -(-tensor.shape[2:].numel() // BLOCK)


def _steps(plan: Plan, parameters: Parameters) -> np.ndarray:
    """Decay and input gain of each step, `[2, T]`."""
    table = np.ones((2, plan.steps), np.float32)
    for row, gain in enumerate((parameters.membrane_gain, parameters.input_gain)):
        if gain is not None:
            table[row] = gain.detach().float().numpy()
    table[0] *= np.float32(plan.decay)
    return table


def _affine(sample: torch.Size, parameters: Parameters, last: bool) -> np.ndarray:
    """Scale and shift of each neuron, `[2, N]`, or nothing."""
    if parameters.scale is None or parameters.shift is None:
        return _NO_AFFINE
    table = torch.empty(1, 2, *sample)
    channel = (-1, *[1] * (len(sample) - 1))
    table[0, 0] = parameters.scale.detach().view(channel)
    table[0, 1] = parameters.shift.detach().view(channel)
    return _flat(storage_view(table, last)[0], 1).numpy()


def _probability(parameters: Parameters, last: bool) -> np.ndarray:
    """Opening probability of each neuron's gate, `[N]`, or nothing."""
    if parameters.probability is None:
        return _NO_GATE
    return storage_view(parameters.probability.detach()[None, None].float(), last).flatten().numpy()


def _keys(plan: Plan, batch: int, parameters: Parameters) -> np.ndarray:
    """Sample keys of the gate and of the noise, `[2, B]`; zeros for what draws nothing."""
    keys = np.zeros((2, batch), np.int64)
    if plan.gating == Mode.DRAW and parameters.gate_keys is not None:
        keys[0] = parameters.gate_keys.numpy()
    if plan.firing == Mode.DRAW and parameters.noise_keys is not None:
        keys[1] = parameters.noise_keys.numpy()
    return keys


def _table(plan: Plan) -> np.ndarray:
    if plan.firing == Mode.NONE:
        return _NO_TABLE
    return firing_table(list(CUMULATIVE)[plan.noise_family]).numpy()


def _layer(
    plan: Plan, batch: int, sample: torch.Size, parameters: Parameters, last: bool
) -> tuple[np.ndarray, ...]:
    """The arguments that all kernels share."""
    return (
        _steps(plan, parameters),
        _affine(sample, parameters, last),
        _probability(parameters, last),
        _keys(plan, batch, parameters),
        _order(sample, last),
        _table(plan),
    )


def run_forward(plan: Plan, current: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Returns the spikes `[T, B, ...]` and what `plan.zoning` remembers, `[1 or T, B, N]`."""
    last = is_channels_last(current)
    batch, sample = current.shape[1], current.shape[2:]
    out = empty_stack(current, plan.steps)
    zone = torch.zeros(zone_steps(plan), batch, sample.numel(), dtype=torch.uint8)
    layer = _layer(plan, batch, sample, parameters, last)
    plain = plan.firing == plan.gating == Mode.NONE and plan.zoning != Zoning.CODE
    run_blocks(
        plain_forward if plain else spiking_forward,
        _tasks(current),
        plan,
        _array(current, last),
        *(layer[:2] if plain else layer),
        _array(out, last),
        zone.numpy(),
    )
    return out, zone


def run_membranes(plan: Plan, current: Tensor, parameters: Parameters) -> Tensor:
    """Returns `v - threshold` of every step, float32 `[T, B, ...]`."""
    last = is_channels_last(current)
    out = empty_stack(current, plan.steps, torch.float32)
    run_blocks(
        membrane_trace,
        _tasks(current),
        plan,
        _array(current, last),
        *_layer(plan, current.shape[1], current.shape[2:], parameters, last),
        _flat(storage_view(out, last)).numpy(),
    )
    return out


def _is_common(plan: Plan) -> bool:
    """Whether the small backward kernel will do, which compiles in a third of the time."""
    triangle = plan.back == Back.EXACT and plan.family == _TRIANGLE
    return plan.back == Back.RATE or (triangle and plan.firing == Mode.NONE)


def run_backward(
    plan: Plan,
    upstream: Tensor,
    current: Tensor | None,
    zone: Tensor,
    sharpness: Tensor | None,
    parameters: Parameters,
    summed: bool,
    last: bool,
    wants: tuple[bool, bool, bool],
) -> tuple[Tensor, ...]:
    """Returns the gradients of current, scale, shift, both gains and probability.

    Args:
        summed: Whether the gradient of the current is summed over the steps.
        last: Whether the current lay channels-last.
        wants: Whether the gradients of the affine, the gains and the probability are needed; those
            that are not come back empty.
    """
    wants_affine, wants_gains, wants_probability = wants
    batch, sample = upstream.shape[1], upstream.shape[2:]
    stored, size, tasks = storage_sample(sample, last), sample.numel(), _tasks(upstream)
    allocate = torch.zeros if summed else torch.empty
    kind = torch.float32 if summed else upstream.dtype
    grad_current = allocate(1 if summed else plan.steps, batch, *stored, dtype=kind)
    grad_affine = torch.zeros(2, batch, size if wants_affine else 0)
    grad_probability = torch.zeros(batch, size if wants_probability else 0)
    grad_steps = np.zeros((tasks if wants_gains else 0, 2, plan.steps))
    nothing = bit_patterns(upstream.new_empty(0, batch, size))
    time_steps, affine, gates, keys, order, table = _layer(plan, batch, sample, parameters, last)
    sharp = None if _is_common(plan) else _NO_SHARPNESS
    if sharpness is not None:
        sharp = _array(sharpness.expand(*sharpness.shape[:2], *sample).float(), last)
    run_blocks(
        spiking_backward,
        tasks,
        plan,
        _array(upstream, last),
        nothing if current is None else _array(current, last),
        zone.numpy(),
        sharp,
        time_steps,
        affine,
        None if plan.gating == Mode.NONE else gates,  # what is not there is not compiled
        keys,
        order,
        None if plan.firing == Mode.NONE else table,
        bit_patterns(_flat(grad_current)),
        grad_affine.numpy(),
        grad_probability.numpy(),
        grad_steps,
    )
    per_channel = per_step = torch.empty(2, 0)
    if wants_affine:
        by_neuron = logical_view(grad_affine.view(2, batch, *stored), last)
        per_channel = by_neuron.reshape(2, batch, sample[0], -1).sum((1, 3))
    if wants_gains:
        per_step = torch.from_numpy(grad_steps.sum(0)).float()
    probability = grad_probability.sum(0)
    if wants_probability:
        probability = logical_view(probability.view(1, 1, *stored), last)[0, 0]
    return (
        logical_view(grad_current.to(upstream.dtype), last),
        per_channel[0].clone(),
        per_channel[1].clone(),
        per_step[0] * plan.decay,
        per_step[1].clone(),
        probability.contiguous(),
    )
