"""From tensors to Triton kernels: lays out the arguments, picks constants, allocates results."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from robust_snn.kernels.spiking.firing_probability import CUMULATIVE, INTERVALS, firing_table
from robust_snn.kernels.spiking.kernel_args import Back, Mode, Parameters, Plan, Zoning, zone_steps
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


def forward_constants(plan: Plan, parameters: Parameters, single: bool) -> dict[str, Any]:
    """Compile-time constants that both kernels share."""
    return {
        "T": plan.steps,
        "SINGLE": single,
        "AFFINE": parameters.scale is not None,
        "GAINS": parameters.membrane_gain is not None or parameters.input_gain is not None,
        "HARD": plan.hard,
        "GATING": plan.gating,
        "FIRING": plan.firing,
        "INTERVALS": INTERVALS,
        "BLOCK": block_size(plan.steps),
    }


def backward_constants(
    plan: Plan,
    parameters: Parameters,
    single: bool,
    summed: bool,
    mapped: bool,
    wants: tuple[bool, ...],
) -> dict[str, Any]:
    """Compile-time constants of the backward kernel."""
    return {
        **forward_constants(plan, parameters, single),
        "SUMMED": summed,
        "BACK": plan.back,
        "DETACHED": plan.detach_reset,
        "FAMILY": plan.family,
        "MAPPED": mapped,
        "RECOMPUTE": any(wants) or not (plan.back == Back.RATE or plan.zoning == Zoning.CODE),
        "CODED": plan.zoning == Zoning.CODE,
        "WANTS_AFFINE": wants[0],
        "WANTS_GAINS": wants[1],
        "WANTS_PROBABILITY": wants[2],
    }


def _stack(tensor: Tensor) -> Tensor:
    """Contiguous, with one step where it is expanded over time."""
    return (tensor[:1] if tensor.stride(0) == 0 else tensor).detach().contiguous()


def _steps(plan: Plan, parameters: Parameters, device: torch.device) -> Tensor:
    table = torch.ones(2, plan.steps, device=device)
    for row, gain in enumerate((parameters.membrane_gain, parameters.input_gain)):
        if gain is not None:
            table[row] = gain.detach()
    table[0] *= plan.decay
    return table


def _neurons(sample: torch.Size, parameters: Parameters, device: torch.device) -> Tensor:
    table = torch.ones(3, *sample, device=device)
    if parameters.scale is not None and parameters.shift is not None:
        channel = (-1, *[1] * (len(sample) - 1))
        table[0] = parameters.scale.detach().view(channel)
        table[1] = parameters.shift.detach().view(channel)
    if parameters.probability is not None:
        table[2] = parameters.probability.detach()
    return table


def _keys(batch: int, parameters: Parameters, device: torch.device) -> Tensor:
    keys = torch.zeros(2, batch, dtype=torch.int64, device=device)
    for row, given in enumerate((parameters.gate_keys, parameters.noise_keys)):
        if given is not None:
            keys[row] = given
    return keys


def _tables(
    plan: Plan, batch: int, sample: torch.Size, parameters: Parameters, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments that both kernels share: steps, neurons, keys and the noise's distribution."""
    table = torch.zeros(1, device=device)
    if plan.firing != Mode.NONE:
        table = firing_table(list(CUMULATIVE)[plan.noise_family]).to(device)
    return (
        _steps(plan, parameters, device),
        _neurons(sample, parameters, device),
        _keys(batch, parameters, device),
        table,
    )


def _forward(
    plan: Plan, current: Tensor, parameters: Parameters, out: Tensor, zone: Tensor, trace: bool
) -> None:
    batch, sample, size = current.shape[1], current.shape[2:], current.shape[2:].numel()
    if out.numel() == 0:
        return
    spiking_forward[(triton.cdiv(size, block_size(plan.steps)), batch)](
        _stack(current),
        *_tables(plan, batch, sample, parameters, current.device),
        out,
        zone,
        size,
        plan.decay,
        plan.threshold,
        plan.gain,
        plan.jump,
        plan.lower_edge,
        plan.upper_edge,
        plan.sharpness,
        plan.layer,
        plan.noise_sharpness,
        plan.noise_layer,
        **forward_constants(plan, parameters, current.shape[0] == 1 or current.stride(0) == 0),
        ZONING=0 if trace else plan.zoning,
        TRACE=trace,
        **_OPTIONS,
    )


def run_forward(plan: Plan, current: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Returns the spikes `[T, B, ...]` and what `plan.zoning` remembers, `[1 or T, B, N]`."""
    shape = current.shape[1:]
    out = current.new_empty(plan.steps, *shape)
    zone = current.new_empty(zone_steps(plan), shape[0], shape[1:].numel(), dtype=torch.uint8)
    _forward(plan, current, parameters, out, zone, trace=False)
    return out, zone


def run_membranes(plan: Plan, current: Tensor, parameters: Parameters) -> Tensor:
    """Returns `v - threshold` of every step, float32 `[T, B, ...]`."""
    out = current.new_empty(plan.steps, *current.shape[1:], dtype=torch.float32)
    ungated = plan._replace(gating=int(Mode.NONE))
    _forward(ungated, current, parameters, out, out.new_empty(0, dtype=torch.uint8), trace=True)
    return out


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
        last: Whether the current lay channels-last; never here.
        wants: Whether the gradients of the affine, the gains and the probability are needed; those
            that are not come back empty.
    """
    wants_affine, wants_gains, wants_probability = wants
    batch, sample = upstream.shape[1], upstream.shape[2:]
    blocks = triton.cdiv(sample.numel(), block_size(plan.steps))
    make = upstream.new_empty
    grad_current = make(1 if summed else plan.steps, *upstream.shape[1:])
    wide = torch.float32
    grad_affine = make(2, batch, *(sample if wants_affine else (0,)), dtype=wide)
    grad_probability = make(batch, *(sample if wants_probability else (0,)), dtype=wide)
    grad_steps = upstream.new_zeros(batch * blocks if wants_gains else 0, 2, plan.steps, dtype=wide)
    mapped = sharpness is not None
    single = current is None or current.shape[0] == 1 or current.stride(0) == 0
    map_ = make(1, 1, 1, dtype=wide)
    if sharpness is not None:
        map_ = sharpness.float().expand(*sharpness.shape[:2], *sample).contiguous()
    if upstream.numel() > 0:
        spiking_backward[(blocks, batch)](
            _stack(upstream),
            make(0) if current is None else _stack(current),
            zone,
            map_,
            *_tables(plan, batch, sample, parameters, upstream.device),
            grad_current,
            grad_affine,
            grad_probability,
            grad_steps,
            sample.numel(),
            map_.stride(0) if map_.shape[0] > 1 else 0,
            map_.stride(1) if map_.shape[1] > 1 else 0,
            plan.decay,
            plan.threshold,
            plan.gain,
            plan.jump,
            plan.sharpness,
            plan.peak,
            plan.floor,
            plan.lower_slope,
            plan.upper_slope,
            plan.layer,
            plan.noise_sharpness,
            plan.noise_layer,
            SINGLE_UPSTREAM=upstream.shape[0] == 1 or upstream.stride(0) == 0,
            **backward_constants(plan, parameters, single, summed, mapped, wants),
            **_OPTIONS,
        )
    per_channel, per_step = make(2, 0, dtype=wide), make(2, 0, dtype=wide)
    if wants_affine:
        per_channel = grad_affine.view(2, batch, sample[0], -1).sum((1, 3))
    if wants_gains:
        per_step = grad_steps.sum(0)
    return (
        grad_current,
        per_channel[0].clone(),
        per_channel[1].clone(),
        per_step[0] * plan.decay,
        per_step[1].clone(),
        grad_probability.sum(0),
    )
