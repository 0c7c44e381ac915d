"""From tensors to Triton kernels: picks compile-time constants and launches the programs."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from robust_snn.kernels.layout import (
    empty_stack,
    is_channels_last,
    is_one_step,
    logical_view,
    storage_sample,
    storage_view,
)
from robust_snn.kernels.spiking.codes import Randomness, Saved, Shape
from robust_snn.kernels.spiking.firing_probability import INTERVALS, table_on
from robust_snn.kernels.spiking.kernel_args import Kept, KernelArgs, LayerTensors, Wanted
from robust_snn.kernels.spiking.parameter_gradients import empty_gradients, sum_gradients
from robust_snn.kernels.spiking.triton.backward import spiking_backward
from robust_snn.kernels.spiking.triton.forward import spiking_forward

THREADS = 128  # per program
_WARP = 64 if torch.version.hip else 32


def options(warp: int) -> dict[str, Any]:
    """How to compile for a device with so many threads in a warp: 32, or 64 on AMD's.

    No fused multiply-add: it would round the membrane otherwise than the other backends do.
    """
    return {"num_warps": THREADS // warp, "enable_fp_fusion": False}


def forward_block(dtype: torch.dtype) -> int:
    """Neurons per program of the forward kernel: a thread loads 16 bytes at once."""
    return THREADS * 16 // dtype.itemsize


def backward_block(steps: int) -> int:
    """Neurons per program of the backward kernel, which keeps all their membranes in registers.

    Four per thread were the fastest on an H100 in float32 and bf16 alike; more steps leave no room.
    """
    return THREADS * (4 if steps <= 16 else 2 if steps <= 32 else 1)


def _shared_constants(args: KernelArgs, single: bool, last: bool) -> dict[str, Any]:
    return {
        "T": args.steps,
        "SINGLE": single,
        "LAST": last,
        "HARD": args.hard,
        "GATING": args.gating,
        "FIRING": args.firing,
        "LEVELS": args.levels,
        "ADAPTS": args.adapts,
        "INTERVALS": INTERVALS,
    }


def forward_constants(
    args: KernelArgs, dtype: torch.dtype, single: bool, last: bool, trace: bool
) -> dict[str, Any]:
    """Compile-time constants of the forward kernel.

    Args:
        dtype: Type of the currents.
        single: Whether one current stands for all steps.
        last: Whether channels lie last in memory.
        trace: Whether it writes membranes in place of spikes.
    """
    saves = Saved.NOTHING if trace else args.saves
    return {
        **_shared_constants(args, single, last),
        "SAVES": int(saves),
        "TRACE": trace,
        "BLOCK": forward_block(dtype),
    }


def backward_constants(
    args: KernelArgs, single: bool, single_upstream: bool, wanted: Wanted
) -> dict[str, Any]:
    """Compile-time constants of the backward kernel.

    Args:
        single: Whether one current stands for all steps.
        single_upstream: Whether one gradient on spikes does.
        wanted: What the kernel returns.
    """
    return {
        **_shared_constants(args, single, wanted.channels_last),
        "SINGLE_UPSTREAM": single_upstream,
        "SUMMED": wanted.summed,
        "TIME": args.time,
        "DETACHED": args.detach_reset,
        "SHAPE": args.surrogate_shape,
        "RECOMPUTE": wanted.parameters or args.recomputes,
        "FROM_BYTES": args.saves == Saved.MEMBRANE,
        "BLOCK": backward_block(args.steps),
    }


def layer_arguments(
    args: KernelArgs, tensors: LayerTensors, stack: Tensor, last: bool
) -> tuple[list[Any], list[int | None]]:
    """What kernels read of a layer, in their order, and the strides of its leaks.

    Args:
        stack: Currents or gradients `[T or 1, B, ...]`; only their sample's shape counts.
        last: Whether channels lie last in memory.
    """
    gates, noise = args.gating == Randomness.DRAW, args.firing == Randomness.DRAW
    read = tensors._replace(
        gate_keys=tensors.gate_keys if gates else None,
        noise_keys=tensors.noise_keys if noise else None,
        membrane_gain=None if tensors.leaks_differ else tensors.membrane_gain,
        rate=None,
        usual=None,
    )
    table = leaks = None
    if args.firing != Randomness.NONE:
        table = table_on(Shape(args.noise_shape).name.lower(), stack.device)
    strides: list[int | None] = [None, None]
    if tensors.leaks_differ:
        leaks = tensors.leaks(stack.shape[2:], last)
        strides = [leaks.stride(i) if leaks.shape[i] > 1 else None for i in (0, 1)]
    own = tensors.homeostasis(stack.shape[2:], last) if args.adapts else (None, None)
    given = [None if x is None else _plain(x) for x in read[:-2]]
    return [*given, table, leaks, *own], strides


def _plain(tensor: Tensor) -> Tensor:
    """As kernels read it: contiguous, and no number of less than 32 bits."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.detach().contiguous()


def _sizes(stack: Tensor) -> tuple[int, int, int, int]:
    """Samples, neurons, channels, and neurons per channel of `[T, B, ...]`."""
    neurons = stack.shape[2:].numel()
    channels = stack.shape[2] if stack.dim() > 2 else 1
    return stack.shape[1], neurons, channels, neurons // max(1, channels)


def _programs(stack: Tensor, block: int) -> int:
    """One per sample and block of its neurons."""
    return stack.shape[1] * triton.cdiv(stack.shape[2:].numel(), block)


def _stack(tensor: Tensor, last: bool) -> Tensor:
    """In storage order, with one step where it is expanded over time; copied only if it must be."""
    return storage_view((tensor[:1] if tensor.stride(0) == 0 else tensor).detach(), last)


def factors(args: KernelArgs) -> KernelArgs:
    """The numbers with None for those that change nothing, which kernels then leave out."""
    neutral = {"decay": 1.0, "gain": 1.0, "reset_value": 0.0, "unit": 1.0}
    neutral |= {"surrogate_sharpness": 1.0, "surrogate_scale": 1.0, "surrogate_floor": 0.0}
    left_out: dict[str, Any] = {
        name: None for name, value in neutral.items() if getattr(args, name) == value
    }
    return args._replace(**left_out)


def _launch_forward(
    args: KernelArgs,
    current: Tensor,
    tensors: LayerTensors,
    out: Tensor,
    saved_bytes: Tensor,
    trace: bool,
) -> None:
    if out.numel() == 0:
        return
    last, numbers = is_channels_last(current), factors(args)
    given, strides = layer_arguments(args, tensors, current, last)
    spiking_forward[(_programs(current, forward_block(current.dtype)),)](
        _stack(current, last),
        *given,
        out,
        saved_bytes,
        *_sizes(current),
        numbers.decay,
        numbers.threshold,
        numbers.gain,
        numbers.reset_value,
        numbers.lower_edge,
        numbers.upper_edge,
        numbers.surrogate_sharpness,
        args.gate_layer,
        args.noise_sharpness,
        args.noise_layer,
        *strides,
        numbers.unit,
        **forward_constants(args, current.dtype, is_one_step(current), last, trace),
        **options(_WARP),
    )


def run_forward(args: KernelArgs, current: Tensor, tensors: LayerTensors) -> tuple[Tensor, Tensor]:
    """Returns the spikes `[T, B, ...]` in the layout of the current, and the saved bytes
    `[0, 1 or T, B, N]` in storage order."""
    out = empty_stack(current, args.steps)
    sizes = args.saved_steps, current.shape[1], current.shape[2:].numel()
    saved_bytes = current.new_empty(sizes, dtype=torch.uint8)
    _launch_forward(args, current, tensors, out, saved_bytes, trace=False)
    return out, saved_bytes


def run_membranes(args: KernelArgs, current: Tensor, tensors: LayerTensors) -> Tensor:
    """Returns `v - threshold` of every step, float32 `[T, B, ...]`."""
    out = empty_stack(current, args.steps, torch.float32)
    ungated = args._replace(gating=int(Randomness.NONE))
    tensors = tensors._replace(probability=None, gate_keys=None)
    nothing = out.new_empty(0, dtype=torch.uint8)
    _launch_forward(ungated, current, tensors, out, nothing, trace=True)
    return out


def run_backward(
    args: KernelArgs, upstream: Tensor, kept: Kept, tensors: LayerTensors, wanted: Wanted
) -> tuple[Tensor | None, ...]:
    """Returns the gradients of current, scale, shift, both gains, probability and rate.

    Those that are not wanted are None.
    """
    last, sample = wanted.channels_last, upstream.shape[2:]
    steps, dtype = (1, torch.float32) if wanted.summed else (args.steps, upstream.dtype)
    stored = upstream.new_empty(
        (steps, upstream.shape[1], *storage_sample(sample, last)), dtype=dtype
    )
    saved_bytes = kept.saved_bytes
    if saved_bytes is None:
        saved_bytes = upstream.new_empty(0, dtype=torch.uint8)
    numbers = factors(args)
    programs = _programs(upstream, backward_block(args.steps))
    sums = empty_gradients(upstream, wanted, programs, torch.empty, torch.float32)
    sharpness, strides = None, [0, 0]
    if kept.sharpness_map is not None:
        sizes = (*kept.sharpness_map.shape[:2], *sample)
        sharpness = storage_view(kept.sharpness_map.float().expand(sizes), last)
        strides = [sharpness.stride(i) if sizes[i] > 1 else 0 for i in (0, 1)]
    if upstream.numel() > 0:
        current = None if kept.current is None else _stack(kept.current, last)
        single = kept.current is None or is_one_step(kept.current)
        given, leak_strides = layer_arguments(args, tensors, upstream, last)
        spiking_backward[(programs,)](
            _stack(upstream, last),
            current,
            saved_bytes,
            sharpness,
            *given,
            stored,
            sums.affine if wanted.affine else None,
            sums.probability if wanted.probability else None,
            sums.steps if wanted.gains else None,
            sums.leaks if wanted.leaks else None,
            sums.rate if wanted.rate else None,
            *_sizes(upstream),
            *strides,
            numbers.decay,
            numbers.threshold,
            numbers.gain,
            numbers.reset_value,
            numbers.surrogate_sharpness,
            numbers.surrogate_scale,
            numbers.surrogate_floor,
            args.lower_slope,
            args.upper_slope,
            args.gate_layer,
            args.noise_sharpness,
            args.noise_layer,
            *leak_strides,
            numbers.unit,
            **backward_constants(args, single, is_one_step(upstream), wanted),
            **options(_WARP),
        )
    return logical_view(stored, last), *sum_gradients(args, tensors, sums, wanted, sample)
