"""From tensors to Triton kernels: picks compile-time constants and launches the programs."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from robust_snn.kernels.spiking.codes import Randomness, Saved
from robust_snn.kernels.spiking.firing_probability import INTERVALS
from robust_snn.kernels.spiking.kernel_args import Kept, KernelArgs, LayerTensors, Wanted
from robust_snn.kernels.spiking.kernel_tables import (
    empty_gradients,
    layer_tables,
    sum_gradients,
)
from robust_snn.kernels.spiking.triton.backward import spiking_backward
from robust_snn.kernels.spiking.triton.forward import spiking_forward

THREADS = 128


def options(warp: int) -> dict[str, Any]:
    """How to compile for a device with so many threads in a warp: 32, or 64 on AMD's.

    No fused multiply-add: it would round the membrane otherwise than the other backends do.
    """
    return {"num_warps": THREADS // warp, "enable_fp_fusion": False}


_OPTIONS = options(64 if torch.version.hip else 32)


def block_size(steps: int) -> int:
    """Neurons per program. The backward pass keeps `steps` membranes of each in registers."""
    return 512 if steps <= 8 else 256 if steps <= 16 else 128


def _shared_constants(args: KernelArgs, tensors: LayerTensors, single: bool) -> dict[str, Any]:
    return {
        "T": args.steps,
        "SINGLE": single,
        "AFFINE": tensors.scale is not None,
        "GAINS": tensors.membrane_gain is not None or tensors.input_gain is not None,
        "HARD": args.hard,
        "GATING": args.gating,
        "FIRING": args.firing,
        "INTERVALS": INTERVALS,
        "BLOCK": block_size(args.steps),
    }


def forward_constants(
    args: KernelArgs, tensors: LayerTensors, single: bool, trace: bool
) -> dict[str, Any]:
    """Compile-time constants of the forward kernel.

    Args:
        single: Whether one current stands for all steps.
        trace: Whether it writes membranes in place of spikes.
    """
    saves = Saved.NOTHING if trace else args.saves
    return {**_shared_constants(args, tensors, single), "SAVES": int(saves), "TRACE": trace}


def backward_constants(
    args: KernelArgs, tensors: LayerTensors, single: bool, mapped: bool, wanted: Wanted
) -> dict[str, Any]:
    """Compile-time constants of the backward kernel.

    Args:
        single: Whether one current stands for all steps.
        mapped: Whether the sharpness of the surrogate comes from a map.
        wanted: What the kernel returns.
    """
    return {
        **_shared_constants(args, tensors, single),
        "SUMMED": wanted.summed,
        "TIME": args.time,
        "DETACHED": args.detach_reset,
        "SHAPE": args.surrogate_shape,
        "MAPPED": mapped,
        "RECOMPUTE": wanted.parameters or args.recomputes,
        "FROM_BYTES": args.saves == Saved.MEMBRANE,
        "WANTS_AFFINE": wanted.affine,
        "WANTS_GAINS": wanted.gains,
        "WANTS_PROBABILITY": wanted.probability,
    }


def _grid(stack: Tensor, args: KernelArgs) -> tuple[int, int]:
    """Blocks of neurons, samples."""
    return triton.cdiv(stack.shape[2:].numel(), block_size(args.steps)), stack.shape[1]


def _is_single(stack: Tensor) -> bool:
    """Whether one step stands for all."""
    return stack.shape[0] == 1 or stack.stride(0) == 0


def _stack(tensor: Tensor) -> Tensor:
    """Contiguous, with one step where it is expanded over time."""
    return (tensor[:1] if tensor.stride(0) == 0 else tensor).detach().contiguous()


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
    spiking_forward[_grid(current, args)](
        _stack(current),
        *layer_tables(args, tensors, current, channels_last=False),
        out,
        saved_bytes,
        current.shape[2:].numel(),
        args.decay,
        args.threshold,
        args.gain,
        args.reset_value,
        args.lower_edge,
        args.upper_edge,
        args.surrogate_sharpness,
        args.gate_layer,
        args.noise_sharpness,
        args.noise_layer,
        **forward_constants(args, tensors, _is_single(current), trace),
        **_OPTIONS,
    )


def run_forward(args: KernelArgs, current: Tensor, tensors: LayerTensors) -> tuple[Tensor, Tensor]:
    """Returns the spikes `[T, B, ...]` and the saved bytes `[0, 1 or T, B, N]`."""
    shape = current.shape[1:]
    out = current.new_empty(args.steps, *shape)
    sizes = args.saved_steps, shape[0], shape[1:].numel()
    saved_bytes = current.new_empty(sizes, dtype=torch.uint8)
    _launch_forward(args, current, tensors, out, saved_bytes, trace=False)
    return out, saved_bytes


def run_membranes(args: KernelArgs, current: Tensor, tensors: LayerTensors) -> Tensor:
    """Returns `v - threshold` of every step, float32 `[T, B, ...]`."""
    out = current.new_empty(args.steps, *current.shape[1:], dtype=torch.float32)
    ungated = args._replace(gating=int(Randomness.NONE))
    nothing = out.new_empty(0, dtype=torch.uint8)
    _launch_forward(ungated, current, tensors, out, nothing, trace=True)
    return out


def run_backward(
    args: KernelArgs, upstream: Tensor, kept: Kept, tensors: LayerTensors, wanted: Wanted
) -> tuple[Tensor, ...]:
    """Returns the gradients of current, scale, shift, both gains and probability.

    Those that are not wanted are empty. `wanted.channels_last` is never set here.
    """
    grid, sample = _grid(upstream, args), upstream.shape[2:]
    grad_current = upstream.new_empty(1 if wanted.summed else args.steps, *upstream.shape[1:])
    sums = empty_gradients(upstream, wanted, grid[0] * grid[1], torch.empty, torch.float32)
    current = upstream.new_empty(0) if kept.current is None else kept.current
    mapped = kept.sharpness_map is not None
    sharpness_map = sums.affine.new_empty(1, 1, 1)
    if kept.sharpness_map is not None:
        sizes = (*kept.sharpness_map.shape[:2], *sample)
        sharpness_map = kept.sharpness_map.float().expand(sizes).contiguous()
    if upstream.numel() > 0:
        single = kept.current is None or _is_single(current)
        spiking_backward[grid](
            _stack(upstream),
            _stack(current),
            kept.saved_bytes,
            sharpness_map,
            *layer_tables(args, tensors, upstream, channels_last=False),
            grad_current,
            *sums,
            sample.numel(),
            sharpness_map.stride(0) if sharpness_map.shape[0] > 1 else 0,
            sharpness_map.stride(1) if sharpness_map.shape[1] > 1 else 0,
            args.decay,
            args.threshold,
            args.gain,
            args.reset_value,
            args.surrogate_sharpness,
            args.surrogate_scale,
            args.surrogate_floor,
            args.lower_slope,
            args.upper_slope,
            args.gate_layer,
            args.noise_sharpness,
            args.noise_layer,
            SINGLE_UPSTREAM=_is_single(upstream),
            **backward_constants(args, tensors, single, mapped, wanted),
            **_OPTIONS,
        )
    return grad_current, *sum_gradients(args, sums, wanted, sample)
