"""The compiled backends as one operator: registered with PyTorch, differentiable once.

The kernels are operators of their own, so that `torch.compile` sees them as single nodes.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, get_type_hints

import torch
from torch import Tensor

from robust_snn.errors import InputError
from robust_snn.kernels.spiking.plan import Back, Plan, make_plan
from robust_snn.kernels.spiking.spec import Dynamics, Gate, Rule

_PLAN = ", ".join(f"{kind.__name__} {name}" for name, kind in get_type_hints(Plan).items())
_PARAMETERS = (
    "Tensor? scale, Tensor? shift, Tensor? membrane_gain, Tensor? input_gain, "
    "Tensor? probability, Tensor? keys"
)

_library = torch.library.Library("robust_snn", "DEF")
_library.define(f"spiking_forward(Tensor current, {_PARAMETERS}, {_PLAN}) -> (Tensor, Tensor)")
_library.define(
    f"spiking_backward(Tensor upstream, Tensor? current, Tensor fired, {_PARAMETERS}, "
    f"bool constant, bool wants_affine, bool wants_gains, bool wants_probability, {_PLAN}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _cpu() -> ModuleType:
    """The Numba backend; importing Numba takes a second, so it waits for the first call."""
    from robust_snn.kernels.spiking import numba

    return numba


@torch.library.impl(_library, "spiking_forward", "CPU")
def _forward_cpu(current: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _cpu().forward(Plan(*rest[6:]), current, *rest[:6])


@torch.library.impl(_library, "spiking_backward", "CPU")
def _backward_cpu(upstream: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    tensors, constant, wants, plan = rest[:8], rest[8], rest[9:12], rest[12:]
    return _cpu().backward(Plan(*plan), upstream, *tensors, constant, wants)


@torch.library.register_fake("robust_snn::spiking_forward")
def _forward_fake(current: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    plan, shape = Plan(*rest[6:]), current.shape[1:]
    remembered = shape if plan.back == Back.FIRED else (shape[0], 0)
    out = current.new_empty(plan.steps, *shape)
    return out, current.new_empty(remembered, dtype=torch.bool)


@torch.library.register_fake("robust_snn::spiking_backward")
def _backward_fake(upstream: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    constant, (affine, gains, probability), plan = rest[8], rest[9:12], Plan(*rest[12:])
    batch, sample = upstream.shape[1], upstream.shape[2:]
    grad_current = upstream.new_empty(1 if constant else plan.steps, batch, *sample)
    full = upstream.new_empty
    channels = (sample[0] if affine else 0,)
    steps = (plan.steps if gains else 0,)
    sizes = (channels, channels, steps, steps, sample if probability else (0,))
    return grad_current, *(full(size, dtype=torch.float32) for size in sizes)


def _refuse(ctx: Any, *gradients: Any) -> Any:
    raise InputError(
        "a compiled backend differentiates the spiking loop once; for second derivatives "
        "(create_graph=True) use backend='torch'"
    )


torch.library.register_autograd("robust_snn::spiking_backward", _refuse, lib=_library)


class _SpikingLoop(torch.autograd.Function):
    """Forward and backward kernels; saves the current, or one byte per neuron for a rate rule."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, keys: Tensor | None, current: Tensor, *parameters: Tensor | None
    ) -> Tensor:
        out, fired = torch.ops.robust_snn.spiking_forward(current, *parameters, keys, *plan)
        scale, shift, membrane_gain, input_gain, probability = ctx.needs_input_grad[3:]
        ctx.wants = (scale or shift, membrane_gain or input_gain, probability)
        recomputes = plan.back == Back.THROUGH_TIME or any(ctx.wants)
        ctx.save_for_backward(current if recomputes else None, fired, *parameters, keys)
        ctx.plan, ctx.constant = plan, current.shape[0] == 1
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = torch.ops.robust_snn.spiking_backward(
            upstream[0], *ctx.saved_tensors, ctx.constant, *ctx.wants, *ctx.plan
        )
        needed = zip(gradients, ctx.needs_input_grad[2:], strict=True)
        return None, None, *(gradient if need else None for gradient, need in needed)


def spiking_loop(
    current: Tensor,
    dynamics: Dynamics,
    rule: Rule,
    *,
    steps: int,
    affine: tuple[Tensor, Tensor] | None = None,
    membrane_gain: Tensor | None = None,
    input_gain: Tensor | None = None,
    gate: Gate | None = None,
) -> Tensor:
    """See `robust_snn.kernels.spiking.spiking_loop`, which checks the arguments."""
    plan = make_plan(dynamics, rule, steps, gate)
    scale, shift = affine or (None, None)
    probability, keys = (None, None) if gate is None else (gate.probability, gate.keys)
    return _SpikingLoop.apply(
        plan, keys, current, scale, shift, membrane_gain, input_gain, probability
    )
