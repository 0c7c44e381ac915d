"""Where backward kernels add up the gradients of a layer's tensors, and what these come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robust_snn.kernels.layout import logical_view, storage_sample
from robust_snn.kernels.spiking.kernel_args import KernelArgs, LayerTensors, Wanted


class ParameterGradients(NamedTuple):
    """Where a backward kernel adds up the gradients of the layer's tensors, in storage order.

    Attributes:
        affine: Of scale and shift, float32 `[2, B, N]`, or `[2, B, 0]` if they are not wanted.
        probability: Of the gate's probability, float32 `[B, N]`, or `[B, 0]`.
        steps: Of decay and input gain, `[programs, 2, T]`, or `[0, 2, T]`.
        leaks: Of the decay of every neuron, float32 `[T, B, N]`, or `[0, B, N]`.
        rate: Of the rate of adapting thresholds, float32 `[B, N]`, or `[B, 0]`.
    """

    affine: Tensor
    probability: Tensor
    steps: Tensor
    leaks: Tensor
    rate: Tensor


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
        torch.empty(len(upstream) if wanted.leaks else 0, batch, size, **float32),
        allocate(batch, size if wanted.rate else 0, **float32),
    )


def sum_gradients(
    args: KernelArgs,
    tensors: LayerTensors,
    sums: ParameterGradients,
    wanted: Wanted,
    sample: torch.Size,
) -> tuple[Tensor | None, ...]:
    """Gradients of scale, shift, both gains, probability and rate; None for those not wanted."""
    batch, stored = sums.affine.shape[1], storage_sample(sample, wanted.channels_last)
    found: list[Tensor | None] = [None] * 6

    def whole(sums: Tensor, *leading: int) -> Tensor:
        return logical_view(sums.view(*leading, *stored), wanted.channels_last)

    if wanted.affine:
        per_channel = whole(sums.affine, 2, batch).reshape(2, batch, sample[0], -1).sum((1, 3))
        found[0], found[1] = per_channel[0].clone(), per_channel[1].clone()
    if wanted.gains:
        per_step = sums.steps.sum(0).float()
        found[2], found[3] = per_step[0] * args.decay, per_step[1].clone()
    if wanted.probability:
        found[4] = whole(sums.probability.sum(0), 1, 1)[0, 0].contiguous()
    if wanted.leaks and tensors.membrane_gain is not None:
        # over the samples first, along memory; `sum_to_size` would also take the other axes apart
        given = tensors.membrane_gain.shape
        by_neuron = sums.leaks if given[1] > 1 else sums.leaks.sum(1, keepdim=True)
        by_neuron = whole(by_neuron, *by_neuron.shape[:2]).sum_to_size(given)
        found[2] = by_neuron.contiguous() * args.decay
    if wanted.rate:
        found[5] = whole(sums.rate.sum(0), 1, 1)[0, 0].contiguous()
    return tuple(found)
