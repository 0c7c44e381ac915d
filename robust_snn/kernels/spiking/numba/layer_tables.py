"""What Numba kernels read of a layer besides its current, as arrays in storage order."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from robust_snn.kernels.layout import storage_view
from robust_snn.kernels.spiking.codes import Randomness, Shape
from robust_snn.kernels.spiking.firing_probability import table_on
from robust_snn.kernels.spiking.kernel_args import KernelArgs, LayerTensors
from robust_snn.kernels.spiking.numba.philox import SPARE

_CPU = torch.device("cpu")
_NO_AFFINE = np.empty((2, 0), np.float32)


def step_table(args: KernelArgs, tensors: LayerTensors) -> np.ndarray:
    """Decay and input gain of each step, float32 `[2, T]`."""
    by_step = None if tensors.leaks_differ else tensors.membrane_gain
    if by_step is None and tensors.input_gain is None:
        return _equal_steps(args.steps, args.decay)
    steps = torch.ones(2, args.steps, dtype=torch.float32, device=_CPU)
    for row, gain in enumerate((by_step, tensors.input_gain)):
        if gain is not None:
            steps[row] = gain.detach()
    steps[0] *= args.decay
    return steps.numpy()


@lru_cache(maxsize=256)
def _equal_steps(steps: int, decay: float) -> np.ndarray:
    """The table of steps that all decay alike; kernels only read it."""
    return np.array([[decay] * steps, [1.0] * steps], np.float32)


def leak_table(tensors: LayerTensors, sample: torch.Size, channels_last: bool) -> np.ndarray | None:
    """Factor on the decay of each neuron, float32 `[T or 1, B or 1, N]`; None if they share it."""
    if not tensors.leaks_differ:
        return None
    return tensors.leaks(sample, channels_last).numpy()


def own_thresholds(
    args: KernelArgs, tensors: LayerTensors, sample: torch.Size, channels_last: bool
) -> tuple[Any, ...] | None:
    """What `own_numbers.threshold_at` takes of several levels or of thresholds that adapt."""
    if args.levels > 1:
        return np.float32(args.unit), np.float32(args.levels - 1)
    if not args.adapts:
        return None
    rate, usual = tensors.homeostasis(sample, channels_last)
    return rate.numpy(), usual.numpy()


def affine_table(tensors: LayerTensors, sample: torch.Size, channels_last: bool) -> np.ndarray:
    """Scale and shift of each neuron, float32 `[2, N]`, or `[2, 0]` without an affine."""
    if tensors.scale is None or tensors.shift is None:
        return _NO_AFFINE
    channels, pixels = sample[0], sample[1:].numel()
    shape = (2, pixels, channels) if channels_last else (2, channels, pixels)
    table = np.empty(shape, np.float32)  # PyTorch takes three times as long
    for row, parameter in zip(table, (tensors.scale, tensors.shift), strict=True):
        values = parameter.detach().float().numpy()
        row[...] = values if channels_last else values[:, None]
    return table.reshape(2, channels * pixels)


def random_tables(
    args: KernelArgs, tensors: LayerTensors, stack: torch.Tensor, channels_last: bool
) -> tuple[np.ndarray, ...]:
    """What random draws of a layer read, whose currents or spikes are `stack` `[T or 1, B, ...]`.

    Returns:
        Opening probability of each neuron's gate, float32 `[N]`, or `[0]`.
        Random keys of the gate and of the membrane noise, int64 `[2, B]`; zeros for what draws
        nothing.
        Numbers of the neurons in the random stream.
        Table of the firing probabilities, float32 `[INTERVALS + 1]`, or `[0]`.
    """
    probability = firing = torch.empty(0, dtype=torch.float32, device=_CPU)
    if tensors.probability is not None:
        by_neuron = tensors.probability.detach()[None, None].float()
        probability = storage_view(by_neuron, channels_last).flatten()
    keys = torch.zeros(2, stack.shape[1], dtype=torch.int64, device=_CPU)
    codes = (args.gating, args.firing)
    for row, given in enumerate((tensors.gate_keys, tensors.noise_keys)):
        if given is not None and codes[row] == Randomness.DRAW:
            keys[row] = given
    if args.firing != Randomness.NONE:
        firing = table_on(Shape(args.noise_shape).name.lower(), _CPU)
    numbers = _neuron_numbers(stack.shape[2:], channels_last)
    return probability.numpy(), keys.numpy(), numbers, firing.numpy()


@lru_cache(maxsize=64)
def _neuron_numbers(sample: torch.Size, channels_last: bool) -> np.ndarray:
    """Number of each neuron in the random stream, in storage order: draws ignore the layout.

    Behind them is as much again as a kernel draws for at once.
    """
    numbers = torch.arange(sample.numel()).view(1, 1, *sample)
    stored = storage_view(numbers, channels_last).flatten().numpy()
    return np.pad(stored, (0, SPARE)).astype(np.uint32)
