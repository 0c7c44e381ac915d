"""From tensors to Numba kernels: picks a kernel, shares its blocks out to threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.kernels.large_pages import in_large_pages
from robust_snn.kernels.layout import (
    empty_stack,
    is_channels_last,
    logical_view,
    storage_sample,
    storage_view,
)
from robust_snn.kernels.numba_tools.half_precision import bit_patterns
from robust_snn.kernels.numba_tools.threads import run_blocks
from robust_snn.kernels.spiking.codes import Randomness, Saved, Shape, Time
from robust_snn.kernels.spiking.kernel_args import Kept, KernelArgs, LayerTensors, Wanted
from robust_snn.kernels.spiking.numba.backward import spiking_backward
from robust_snn.kernels.spiking.numba.block_choice import BLOCK, choose_block
from robust_snn.kernels.spiking.numba.forward import (
    membrane_trace,
    plain_forward,
    spiking_forward,
)
from robust_snn.kernels.spiking.numba.layer_tables import (
    affine_table,
    leak_table,
    own_thresholds,
    random_tables,
    step_table,
)
from robust_snn.kernels.spiking.parameter_gradients import (
    ParameterGradients,
    empty_gradients,
    sum_gradients,
)

DEAR = 2  # times a plain forward pass at least: a backward pass, random draws
_NO_BYTES = np.empty((0, 0, 0), np.uint8)
_ONE_SHARPNESS = np.empty((0, 0, 0), np.float32)
# what a backward kernel does not read
_NO_DRAWS = None, np.empty((2, 0), np.int64), np.empty(0, np.uint32), None
_NO_SUMS = (
    np.empty((2, 0, 0), np.float32),
    np.empty((0, 0), np.float32),
    np.empty((0, 2, 0)),
    np.empty((0, 0, 0), np.float32),
    np.empty((0, 0), np.float32),
)


def _array(tensor: Tensor, channels_last: bool) -> np.ndarray:
    """`[T, B, ...]` as `[T, B, N]` in storage order; see `bit_patterns`.

    Without a copy if it is in that order, or expanded over time.
    """
    if tensor.stride(0) == 0:
        tensor = tensor[:1]
    return _flat(storage_view(tensor.detach(), channels_last))


def _flat(tensor: Tensor) -> np.ndarray:
    """A contiguous `[T, B, ...]` as `[T, B, N]`, also where a dimension is zero."""
    array = bit_patterns(tensor)
    if array.ndim == 3:
        return array
    steps, batch, *sample = array.shape
    return array.reshape(steps, batch, math.prod(sample))


def _run(
    kernel: Callable[..., int],
    name: str,
    stack: Tensor,
    work: int,
    args: KernelArgs,
    *arrays: Any,
    totals: Sequence[Tensor] = (),
    block: int = 0,
) -> None:
    """Runs a kernel on all blocks of neurons of a stack `[T, B, ...]`.

    Args:
        kernel: A kernel.
        name: What it is called where block sizes are remembered.
        stack: The neurons.
        work: Values that all of it passes over.
        args: The numbers.
        arrays: Further arguments of the kernel.
        totals: What it adds to, zeros so far.
        block: Neurons of a block, where results depend on it; the fastest if 0.
    """
    batch, neurons = stack.shape[1], stack.shape[2:].numel()

    def run(size: int) -> None:
        run_blocks(kernel, batch * -(-neurons // size), work, size, args, *arrays)

    if block == 0 and neurons > BLOCK:
        block = choose_block(name, args, stack, run, lambda: [total.zero_() for total in totals])
    run(block or BLOCK)


def run_forward(
    args: KernelArgs, current: Tensor, tensors: LayerTensors
) -> tuple[Tensor, Tensor | None]:
    """Returns the spikes `[T, B, ...]` and the saved bytes `[1 or T, B, N]`, if there are any."""
    last, sample = is_channels_last(current), current.shape[2:]
    stored = args.steps, current.shape[1], *storage_sample(sample, last)
    out = in_large_pages(torch.empty(stored, dtype=current.dtype))
    saved_bytes, saved = None, _NO_BYTES
    if args.saves != Saved.NOTHING:
        sizes = args.saved_steps, current.shape[1], sample.numel()
        saved_bytes = torch.zeros(sizes, dtype=torch.uint8)
        saved = saved_bytes.numpy()
    tables = _layer_tables(args, tensors, sample, last)
    work, kernel = out.numel(), plain_forward
    if not args.firing == args.gating == Randomness.NONE or args.saves == Saved.MEMBRANE:
        work, kernel = DEAR * work, spiking_forward
        tables += random_tables(args, tensors, current, last)
    given = _array(current, last)
    totals = () if saved_bytes is None else (saved_bytes,)
    _run(kernel, "forward", out, work, args, given, *tables, _flat(out), saved, totals=totals)
    return logical_view(out, last), saved_bytes


def _layer_tables(
    args: KernelArgs, tensors: LayerTensors, sample: torch.Size, last: bool
) -> list[Any]:
    """What every kernel reads of a layer that draws nothing."""
    return [
        step_table(args, tensors),
        affine_table(tensors, sample, last),
        leak_table(tensors, sample, last),
        own_thresholds(args, tensors, sample, last),
    ]


def run_membranes(args: KernelArgs, current: Tensor, tensors: LayerTensors) -> Tensor:
    """Returns `v - threshold` of every step, float32 `[T, B, ...]`."""
    last = is_channels_last(current)
    out = empty_stack(current, args.steps, torch.float32)
    _run(
        membrane_trace,
        "membranes",
        out,
        DEAR * out.numel(),
        args,
        _array(current, last),
        *_layer_tables(args, tensors, current.shape[2:], last),
        *random_tables(args, tensors, current, last)[1:],
        _array(out, last),
    )
    return out


def _is_common(args: KernelArgs) -> bool:
    """Whether the small backward kernel will do, which compiles in a third of the time."""
    triangle = args.time == Time.RECURSION and args.surrogate_shape == Shape.TRIANGLE
    alike = not args.adapts and args.firing == Randomness.NONE
    return args.time == Time.RATE_SLOPE or (triangle and alike)


def run_backward(
    args: KernelArgs, upstream: Tensor, kept: Kept, tensors: LayerTensors, wanted: Wanted
) -> tuple[Tensor | None, ...]:
    """Returns the gradients of current, scale, shift, both gains, probability and rate.

    Those that are not wanted are None.
    """
    batch, sample, last = upstream.shape[1], upstream.shape[2:], wanted.channels_last
    allocate, dtype = (
        (torch.zeros, torch.float32) if wanted.summed else (torch.empty, upstream.dtype)
    )
    stored = (1 if wanted.summed else args.steps, batch, *storage_sample(sample, last))
    grad_current = in_large_pages(allocate(stored, dtype=dtype))
    current = upstream.new_empty(0, *upstream.shape[1:]) if kept.current is None else kept.current
    sharpness_map = None if _is_common(args) else _ONE_SHARPNESS
    if kept.sharpness_map is not None:
        steps, samples = kept.sharpness_map.shape[:2]
        sharpness_map = _array(kept.sharpness_map.expand(steps, samples, *sample).float(), last)
    gated, noisy = args.gating != Randomness.NONE, args.firing != Randomness.NONE
    probability, keys, numbers, firing = _NO_DRAWS
    if gated or noisy:
        probability, keys, numbers, firing = random_tables(args, tensors, upstream, last)
    sums: ParameterGradients | None = None
    added: list[Any] = list(_NO_SUMS)
    if wanted.parameters:
        blocks = batch * -(-sample.numel() // BLOCK)
        sums = empty_gradients(upstream, wanted, blocks, torch.zeros, torch.float64)
        added = [gradient.numpy() for gradient in sums]
    tables = _layer_tables(args, tensors, sample, last)
    if args.time == Time.RATE_SLOPE and kept.current is None:
        tables[2:] = None, None  # no leak or threshold is read
    if not args.adapts or tables[-1] is None:
        added[-1] = None
    elif not wanted.rate:
        added[-1] = np.zeros((batch, sample.numel()), np.float32)
    _run(
        spiking_backward,
        "backward",
        upstream,
        DEAR * upstream.numel(),
        args,
        _array(upstream, last),
        _array(current, last),
        _NO_BYTES if kept.saved_bytes is None else kept.saved_bytes.numpy(),
        sharpness_map,
        *tables,
        probability if gated else None,  # what is not there is not compiled
        keys,
        numbers,
        firing if noisy else None,
        _flat(grad_current),
        *added,
        totals=((grad_current,) if wanted.summed else ()) + (sums or ()),
        block=BLOCK if wanted.gains else 0,  # they are sums over each block
    )
    on_tensors: tuple[Tensor | None, ...] = (None,) * 6
    if sums is not None:
        on_tensors = sum_gradients(args, tensors, sums, wanted, sample)
    return logical_view(grad_current, last), *on_tensors
