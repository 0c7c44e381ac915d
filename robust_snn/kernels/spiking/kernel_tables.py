"""What kernels read of a layer besides its current, and where they add up its gradients.

Both are laid out here once, as tensors in storage order, for every compiled backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robust_snn.kernels.layout import logical_view, storage_sample, storage_view
from robust_snn.kernels.spiking.codes import Randomness, Shape
from robust_snn.kernels.spiking.firing_probability import table_on
from robust_snn.kernels.spiking.kernel_args import KernelArgs, LayerTensors, Wanted


class LayerTables(NamedTuple):
    """The tensors of a layer as kernels read them.

    Attributes:
        steps: Decay and input gain of each step, float32 `[2, T]`.
        affine: Scale and shift of each neuron, float32 `[2, N]`, or `[2, 0]` without an affine.
        probability: Opening probability of each neuron's gate, float32 `[N]`, or `[0]`.
        keys: Random keys of the gate and of the membrane noise, int64 `[2, B]`; zeros for what
            draws nothing.
        firing: Table of the firing probabilities, float32 `[INTERVALS + 1]`, or `[0]`.
    """

    steps: Tensor
    affine: Tensor
    probability: Tensor
    keys: Tensor
    firing: Tensor


def layer_tables(
    args: KernelArgs, tensors: LayerTensors, stack: Tensor, channels_last: bool
) -> LayerTables:
    """The tables of a layer whose currents or spikes are `stack` `[T or 1, B, ...]`."""
    return LayerTables(
        step_table(args, tensors, stack.device),
        affine_table(tensors, stack, channels_last),
        *random_tables(args, tensors, stack, channels_last),
    )


def random_tables(
    args: KernelArgs, tensors: LayerTensors, stack: Tensor, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Opening probabilities, random keys and firing probabilities; see `LayerTables`."""
    batch, device = stack.shape[1], stack.device
    float32: dict[str, Any] = {"dtype": torch.float32, "device": device}
    probability = torch.empty(0, **float32)
    if tensors.probability is not None:
        by_neuron = tensors.probability.detach()[None, None].float()
        probability = storage_view(by_neuron, channels_last).flatten()

    keys = torch.zeros(2, batch, dtype=torch.int64, device=device)
    codes = (args.gating, args.firing)
    for row, given in enumerate((tensors.gate_keys, tensors.noise_keys)):
        if given is not None and codes[row] == Randomness.DRAW:
            keys[row] = given

    firing = torch.empty(0, **float32)
    if args.firing != Randomness.NONE:
        firing = table_on(Shape(args.noise_shape).name.lower(), device)
    return probability, keys, firing


def step_table(args: KernelArgs, tensors: LayerTensors, device: torch.device) -> Tensor:
    """Decay and input gain of each step, float32 `[2, T]`."""
    steps = torch.ones(2, args.steps, dtype=torch.float32, device=device)
    for row, gain in enumerate((tensors.membrane_gain, tensors.input_gain)):
        if gain is not None:
            steps[row] = gain.detach()
    steps[0] *= args.decay
    return steps


def affine_table(tensors: LayerTensors, stack: Tensor, channels_last: bool) -> Tensor:
    """Scale and shift of each neuron, float32 `[2, N]`, or `[2, 0]` without an affine."""
    if tensors.scale is None or tensors.shift is None:
        return torch.empty(2, 0, dtype=torch.float32, device=stack.device)
    sample = stack.shape[2:]
    by_neuron = torch.empty(2, 1, *sample, dtype=torch.float32, device=stack.device)
    for row, parameter in enumerate((tensors.scale, tensors.shift)):
        by_neuron[row, 0] = parameter.detach().view(-1, *[1] * (len(sample) - 1))
    return storage_view(by_neuron, channels_last).view(2, sample.numel())


class ParameterGradients(NamedTuple):
    """Where a backward kernel adds up the gradients of the layer's tensors, in storage order.

    Attributes:
        affine: Of scale and shift, float32 `[2, B, N]`, or `[2, B, 0]` if they are not wanted.
        probability: Of the gate's probability, float32 `[B, N]`, or `[B, 0]`.
        steps: Of decay and input gain, `[programs, 2, T]`, or `[0, 2, T]`.
    """

    affine: Tensor
    probability: Tensor
    steps: Tensor


def empty_gradients(
    upstream: Tensor,
    wanted: Wanted,
    programs: int,
    allocate: Callable[..., Tensor],
    steps_dtype: torch.dtype,
) -> ParameterGradients:
    """Memory for what `programs` programs, or blocks of neurons, add up.

    Args:
        allocate: `torch.zeros`, or `torch.empty` where a kernel writes every value once.
        steps_dtype: Type in which a program's sums over its neurons are kept.
    """
    batch, size, device = upstream.shape[1], upstream.shape[2:].numel(), upstream.device
    float32: dict[str, Any] = {"dtype": torch.float32, "device": device}
    by_step = torch.zeros if wanted.gains else torch.empty  # not every rule writes both gains
    return ParameterGradients(
        allocate(2, batch, size if wanted.affine else 0, **float32),
        allocate(batch, size if wanted.probability else 0, **float32),
        by_step(
            programs if wanted.gains else 0, 2, len(upstream), dtype=steps_dtype, device=device
        ),
    )


def sum_gradients(
    args: KernelArgs, sums: ParameterGradients, wanted: Wanted, sample: torch.Size
) -> tuple[Tensor | None, ...]:
    """Gradients of scale, shift, both gains and probability; None for those not wanted."""
    batch, stored = sums.affine.shape[1], storage_sample(sample, wanted.channels_last)
    found: list[Tensor | None] = [None] * 5
    if wanted.affine:
        by_neuron = logical_view(sums.affine.view(2, batch, *stored), wanted.channels_last)
        per_channel = by_neuron.reshape(2, batch, sample[0], -1).sum((1, 3))
        found[0], found[1] = per_channel[0].clone(), per_channel[1].clone()
    if wanted.gains:
        per_step = sums.steps.sum(0).float()
        found[2], found[3] = per_step[0] * args.decay, per_step[1].clone()
    if wanted.probability:
        by_neuron = sums.probability.sum(0).view(1, 1, *stored)
        found[4] = logical_view(by_neuron, wanted.channels_last)[0, 0].contiguous()
    return tuple(found)
