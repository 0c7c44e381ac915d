"""From tensors to kernels: lays out the arguments, allocates the results."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.spiking.numba.backward import spiking_backward
from robust_snn.kernels.spiking.numba.forward import BLOCK, spiking_forward
from robust_snn.kernels.spiking.numba.threads import run_blocks
from robust_snn.kernels.spiking.plan import Back, Gating, Plan

_UNIFORM = np.concatenate([np.ones((1, BLOCK)), np.zeros((1, BLOCK)), np.ones((1, BLOCK))])
_SAME = _UNIFORM.astype(np.float32)  # scale 1, shift 0, probability 1 for a block of neurons
_NO_KEYS = np.zeros(0, np.int64)


def _flat(tensor: Tensor, leading: int = 2) -> Tensor:
    """`[T, B, ...]` as `[T, B, N]`, also where a dimension is zero."""
    return tensor.reshape(*tensor.shape[:leading], tensor.shape[leading:].numel())


def _array(tensor: Tensor) -> np.ndarray:
    """`[T, B, ...]` as float32 `[T, B, N]`, without a copy if contiguous or expanded over time."""
    if tensor.stride(0) == 0:
        tensor = tensor[:1]
    return _flat(tensor.detach()).float().contiguous().numpy()


def _tasks(current: Tensor) -> int:
    """Number of blocks over all samples."""
    return current.shape[1] * -(-current.shape[2:].numel() // BLOCK)


def _steps(plan: Plan, membrane_gain: Tensor | None, input_gain: Tensor | None) -> np.ndarray:
    """Decay and input gain of each step, `[2, T]`."""
    table = np.ones((2, plan.steps), np.float32)
    if membrane_gain is not None:
        table[0] = membrane_gain.detach().float().numpy()
    if input_gain is not None:
        table[1] = input_gain.detach().float().numpy()
    table[0] *= np.float32(plan.decay)
    return table


def _neurons(
    current: Tensor, scale: Tensor | None, shift: Tensor | None, probability: Tensor | None
) -> np.ndarray:
    """Scale, shift and gate probability of each neuron, `[3, N]`, or of all in a block."""
    if scale is None and probability is None:
        return _SAME
    sample = current.shape[2:]
    table = torch.empty(3, *sample)
    table[0], table[1], table[2] = 1, 0, 1
    if scale is not None and shift is not None:
        channel = (-1, *[1] * (len(sample) - 1))
        table[0], table[1] = scale.detach().view(channel), shift.detach().view(channel)
    if probability is not None:
        table[2] = probability.detach()
    return table.view(3, -1).numpy()


def forward(
    plan: Plan,
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
    probability: Tensor | None,
    keys: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns the spikes `[T, B, ...]` and, for a rate rule, which neurons fired `[B, ...]`."""
    shape = current.shape[1:]
    out = torch.empty(plan.steps, *shape)
    remembers = plan.back == Back.FIRED
    fired = torch.zeros(shape if remembers else (shape[0], 0), dtype=torch.bool)
    run_blocks(
        spiking_forward,
        _tasks(current),
        plan,
        _array(current),
        _steps(plan, membrane_gain, input_gain),
        _neurons(current, scale, shift, probability),
        _NO_KEYS if plan.gating != Gating.DRAW or keys is None else keys.numpy(),
        _flat(out).numpy(),
        _flat(fired, 1).numpy(),
    )
    return out.to(current.dtype), fired


def backward(
    plan: Plan,
    upstream: Tensor,
    current: Tensor | None,
    fired: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
    probability: Tensor | None,
    keys: Tensor | None,
    constant: bool,
    wants: tuple[bool, bool, bool],
) -> tuple[Tensor, ...]:
    """Returns the gradients of current, scale, shift, both gains and probability.

    Args:
        constant: Whether the current had one step for all.
        wants: Whether the gradients of the affine, the gains and the probability are needed; those
            that are not come back empty.
    """
    wants_affine, wants_gains, wants_probability = wants
    batch, sample = upstream.shape[1], upstream.shape[2:]
    size, tasks = sample.numel(), _tasks(upstream)
    allocate = torch.zeros if constant else torch.empty
    grad_current = allocate(1 if constant else plan.steps, *upstream.shape[1:])
    grad_affine = torch.zeros(2, batch, size if wants_affine else 0)
    grad_probability = torch.zeros(batch, size if wants_probability else 0)
    grad_steps = np.zeros((tasks if wants_gains else 0, 2, plan.steps))
    nothing = np.empty((0, batch, size), np.float32)
    rate = np.empty((batch, 0), np.float32)
    if plan.back == Back.FIRED:
        rate = (_flat(fired, 1) * (1 / plan.threshold)).numpy()
    run_blocks(
        spiking_backward,
        tasks,
        plan,
        _array(upstream),
        nothing if current is None else _array(current),
        rate,
        _steps(plan, membrane_gain, input_gain),
        _neurons(upstream, scale, shift, probability),
        _NO_KEYS if plan.gating != Gating.DRAW or keys is None else keys.numpy(),
        _flat(grad_current).numpy(),
        grad_affine.numpy(),
        grad_probability.numpy(),
        grad_steps,
    )
    per_channel = per_step = torch.empty(2, 0)
    if wants_affine:
        per_channel = grad_affine.view(2, batch, sample[0], -1).sum((1, 3))
    if wants_gains:
        per_step = torch.from_numpy(grad_steps.sum(0)).float()
    return (
        grad_current.to(upstream.dtype),
        per_channel[0].clone(),
        per_channel[1].clone(),
        per_step[0] * plan.decay,
        per_step[1].clone(),
        grad_probability.sum(0).view(sample if wants_probability else (0,)),
    )
