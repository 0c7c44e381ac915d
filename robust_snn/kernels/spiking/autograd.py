"""The compiled backends as operators that PyTorch knows, differentiable once.

`torch.compile` and fake tensors see each kernel as one node. The operators take the fields of
`Parameters` and `Plan` one by one, since a schema has no other way.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints

import torch
from torch import Tensor

from robust_snn.kernels.layout import (
    empty_stack,
    is_channels_last,
    logical_view,
    same_at_every_step,
    storage_sample,
)
from robust_snn.kernels.spiking.kernel_args import (
    Back,
    Mode,
    Parameters,
    Plan,
    Zoning,
    make_plan,
    zone_steps,
)
from robust_snn.kernels.spiking.spec import Bptt, Dynamics, FixedRule, Gate, Noise, Surrogate
from robust_snn.utils.errors import InputError

_PLAN = ", ".join(f"{kind.__name__} {name}" for name, kind in get_type_hints(Plan).items())
_PARAMETERS = ", ".join(f"Tensor? {name}" for name in Parameters._fields)
_COUNT = len(Parameters._fields)

_LAYER = f"Tensor current, {_PARAMETERS}, str backend, {_PLAN}"

_library = torch.library.Library("robust_snn", "DEF")
_library.define(f"spiking_forward({_LAYER}) -> (Tensor, Tensor)")
_library.define(f"membranes({_LAYER}) -> Tensor")
_library.define(
    "spiking_backward(Tensor upstream, Tensor? current, Tensor zone, Tensor? sharpness_map, "
    f"{_PARAMETERS}, bool summed, bool channels_last, bool wants_affine, bool wants_gains, "
    f"bool wants_probability, str backend, {_PLAN}) -> ({', '.join(['Tensor'] * 6)})"
)


def _load(backend: str) -> ModuleType:
    """The kernels of a backend; importing their compiler takes a second, so it waits till here."""
    return import_module(f"robust_snn.kernels.spiking.{backend}")


def _split(rest: tuple[Any, ...]) -> tuple[Parameters, str, Plan]:
    """The arguments from the parameters on."""
    return Parameters(*rest[:_COUNT]), rest[_COUNT], Plan(*rest[_COUNT + 1 :])


def _forward(current: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    parameters, backend, plan = _split(rest)
    return _load(backend).run_forward(plan, current, parameters)


def _membranes(current: Tensor, *rest: Any) -> Tensor:
    parameters, backend, plan = _split(rest)
    return _load(backend).run_membranes(plan, current, parameters)


def _backward(
    upstream: Tensor, current: Tensor | None, zone: Tensor, sharpness: Tensor | None, *rest: Any
) -> tuple[Tensor, ...]:
    summed, last, *wants = rest[_COUNT : _COUNT + 5]
    parameters, backend, plan = _split(rest[:_COUNT] + rest[_COUNT + 5 :])
    return _load(backend).run_backward(
        plan, upstream, current, zone, sharpness, parameters, summed, last, tuple(wants)
    )


for _device in ("CPU", "CUDA"):
    _library.impl("spiking_forward", _forward, _device)
    _library.impl("membranes", _membranes, _device)
    _library.impl("spiking_backward", _backward, _device)


@torch.library.register_fake("robust_snn::spiking_forward", lib=_library)
def _forward_fake(current: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    plan = _split(rest)[2]
    sizes = zone_steps(plan), current.shape[1], current.shape[2:].numel()
    return empty_stack(current, plan.steps), current.new_empty(sizes, dtype=torch.uint8)


@torch.library.register_fake("robust_snn::membranes", lib=_library)
def _membranes_fake(current: Tensor, *rest: Any) -> Tensor:
    return empty_stack(current, _split(rest)[2].steps, torch.float32)


@torch.library.register_fake("robust_snn::spiking_backward", lib=_library)
def _backward_fake(
    upstream: Tensor, current: Tensor | None, zone: Tensor, sharpness: Tensor | None, *rest: Any
) -> tuple[Tensor, ...]:
    summed, last, affine, gains, probability = rest[_COUNT : _COUNT + 5]
    steps, sample = Plan(*rest[_COUNT + 6 :]).steps, upstream.shape[2:]
    stored = storage_sample(sample, last)
    grad_current = upstream.new_empty(1 if summed else steps, upstream.shape[1], *stored)
    channels, gained = (sample[0] if affine else 0,), (steps if gains else 0,)
    sizes = (channels, channels, gained, gained, sample if probability else (0,))
    return logical_view(grad_current, last), *(
        upstream.new_empty(size, dtype=torch.float32) for size in sizes
    )


def _refuse(ctx: Any, *gradients: Any) -> Any:
    raise InputError(
        "a compiled backend differentiates the spiking loop once; for second derivatives "
        "(create_graph=True) use backend='torch'"
    )


torch.library.register_autograd("robust_snn::spiking_backward", _refuse, lib=_library)


class _SpikingLoop(torch.autograd.Function):
    """Forward and backward kernels; saves the current, or one byte per neuron of a rate rule,
    and per neuron and step of a compact one."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: str,
        plan: Plan,
        sharpness: Tensor | None,
        current: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        out, zone = torch.ops.robust_snn.spiking_forward(current, *parameters, backend, *plan)
        scale, shift, membrane_gain, input_gain, probability = ctx.needs_input_grad[4:9]
        ctx.wants = (scale or shift, membrane_gain or input_gain, probability)
        remembered = plan.back == Back.RATE or plan.zoning == Zoning.CODE
        recomputes = not remembered or any(ctx.wants)
        kept = current if recomputes else None, zone if zone_steps(plan) else None
        ctx.save_for_backward(*kept, sharpness, *parameters)
        ctx.backend, ctx.plan = backend, plan
        ctx.layout = (current.shape[0] == 1, is_channels_last(current))
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, saved, (constant, last) = upstream[0], list(ctx.saved_tensors), ctx.layout
        if saved[1] is None:
            sizes = 0, gradient.shape[1], gradient.shape[2:].numel()
            saved[1] = gradient.new_empty(sizes, dtype=torch.uint8)
        once = not constant and _gives_same_steps(ctx.plan, gradient, Parameters(*saved[3:]))
        on_current, *others = torch.ops.robust_snn.spiking_backward(
            gradient, *saved, constant or once, last, *ctx.wants, ctx.backend, *ctx.plan
        )
        if once:  # what came back is the sum over the steps
            on_current = (on_current / len(gradient)).expand(gradient.shape)
        needed = zip((on_current, *others), ctx.needs_input_grad[3:9], strict=True)
        return None, None, None, *(g if need else None for g, need in needed), None, None


def _gives_same_steps(plan: Plan, upstream: Tensor, parameters: Parameters) -> bool:
    """Whether the gradient on currents is the same at every step.

    HART averages over time; a slope per neuron leaves a constant gradient constant, unless draws
    differ between the steps.
    """
    if torch.compiler.is_compiling() or parameters.input_gain is not None:
        return False
    if plan.back == Back.RATE:
        return plan.gating != Mode.DRAW and same_at_every_step(upstream)
    return plan.back == Back.MERGED


def spiking_loop(
    current: Tensor,
    dynamics: Dynamics,
    rule: FixedRule,
    *,
    backend: str,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """See `robust_snn.kernels.spiking.spiking_loop`, which checks the arguments."""
    plan = make_plan(dynamics, rule, steps, gate, noise)
    sharpness = rule.sharpness if isinstance(rule, Bptt) else None
    parameters = _parameters(affine, membrane_gain, input_gain, gate, noise)
    if backend == "triton":  # programs are laid out for channels-first memory
        current = current.contiguous()
    return _SpikingLoop.apply(backend, plan, sharpness, current, *parameters)


@torch.no_grad()
def membranes(
    current: Tensor,
    dynamics: Dynamics,
    *,
    backend: str,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """`v - threshold` of every step, `[T, B, ...]`; arguments as in `spiking_loop`."""
    plan = make_plan(dynamics, Bptt(Surrogate("triangle", 1.0)), steps, None, noise)
    parameters = _parameters(affine, membrane_gain, input_gain, None, noise)
    return torch.ops.robust_snn.membranes(current, *parameters, backend, *plan)


def _parameters(
    affine: tuple[Tensor, Tensor] | None,
    membrane_gain: Tensor | None,
    input_gain: Tensor | None,
    gate: Gate | None,
    noise: Noise | None,
) -> Parameters:
    scale, shift = affine or (None, None)
    return Parameters(
        scale,
        shift,
        membrane_gain,
        input_gain,
        None if gate is None else gate.probability,
        None if gate is None else gate.keys,
        None if noise is None else noise.keys,
    )
