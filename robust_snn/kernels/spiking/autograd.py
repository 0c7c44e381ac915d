"""The compiled backends as operators that PyTorch knows, differentiable once.

`torch.compile` and fake tensors see each kernel as one node. The operators take the fields of
`LayerTensors` and `KernelArgs` one by one, since a schema has no other way.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor
from torch.autograd import forward_ad

from robust_snn.kernels.backend import ready_to_launch
from robust_snn.kernels.layout import (
    empty_stack,
    is_channels_last,
    is_one_step,
    logical_view,
    storage_sample,
)
from robust_snn.kernels.spiking.codes import Randomness, Time
from robust_snn.kernels.spiking.kernel_args import (
    Kept,
    KernelArgs,
    LayerTensors,
    Wanted,
    kernel_args,
    layer_tensors,
)
from robust_snn.kernels.spiking.rules import TRIANGLE_RECURSION, Recursion, TimeRule
from robust_snn.kernels.spiking.spec import Dynamics, LayerInputs
from robust_snn.utils.errors import InputError


class _Call(NamedTuple):
    """The arguments that end the schema of every operator."""

    tensors: LayerTensors
    backend: str
    args: KernelArgs

    @property
    def kernels(self) -> ModuleType:
        return _kernels(self.backend)


@cache
def _kernels(backend: str) -> ModuleType:
    """The kernels of a backend; importing their compiler takes a second, so not before."""
    return import_module(f"robust_snn.kernels.spiking.{backend}")


def _call(flat: tuple[Any, ...]) -> _Call:
    count = len(LayerTensors._fields)
    return _Call(LayerTensors(*flat[:count]), flat[count], KernelArgs(*flat[count + 1 :]))


def _wanted_call(flat: tuple[Any, ...]) -> tuple[Wanted, _Call]:
    count = len(Wanted._fields)
    return Wanted(*flat[:count]), _call(flat[count:])


def _schema(fields: type, kind: str = "") -> str:
    """The fields of a NamedTuple as arguments of an operator."""
    return ", ".join(
        f"{kind or hint.__name__} {name}" for name, hint in get_type_hints(fields).items()
    )


_CALL = f"{_schema(LayerTensors, 'Tensor?')}, str backend, {_schema(KernelArgs)}"

_library = torch.library.Library("robust_snn", "DEF")
_library.define(f"spiking_forward(Tensor current, {_CALL}) -> (Tensor, Tensor)")
_library.define(f"membranes(Tensor current, {_CALL}) -> Tensor")
_library.define(
    "spiking_backward(Tensor upstream, Tensor? current, Tensor? saved_bytes, "
    f"Tensor? sharpness_map, {_schema(Wanted, 'bool').replace('bool ', 'bool wants_')}, {_CALL}) "
    f"-> ({', '.join(['Tensor'] * 7)})"
)


def _forward(current: Tensor, *flat: Any) -> tuple[Tensor, Tensor]:
    out, saved_bytes = _forward_or_none(current, *flat)
    if saved_bytes is None:
        sizes = 0, current.shape[1], current.shape[2:].numel()
        saved_bytes = current.new_empty(sizes, dtype=torch.uint8)
    return out, saved_bytes


def _forward_or_none(current: Tensor, *flat: Any) -> tuple[Tensor, Tensor | None]:
    call = _call(flat)
    with ready_to_launch(call.backend, current):
        return call.kernels.run_forward(call.args, current, call.tensors)


def _membranes(current: Tensor, *flat: Any) -> Tensor:
    call = _call(flat)
    with ready_to_launch(call.backend, current):
        return call.kernels.run_membranes(call.args, current, call.tensors)


def _backward(*flat: Any) -> tuple[Tensor, ...]:
    upstream: Tensor = flat[0]
    found = _backward_or_none(*flat)
    return tuple(upstream.new_empty(0, dtype=torch.float32) if g is None else g for g in found)


def _backward_or_none(
    upstream: Tensor,
    current: Tensor | None,
    saved_bytes: Tensor | None,
    sharpness_map: Tensor | None,
    *flat: Any,
) -> tuple[Tensor | None, ...]:
    wanted, call = _wanted_call(flat)
    kept = Kept(current, saved_bytes, sharpness_map)
    with ready_to_launch(call.backend, upstream):
        return call.kernels.run_backward(call.args, upstream, kept, call.tensors, wanted)


for _device in ("CPU", "CUDA"):
    _library.impl("spiking_forward", _forward, _device)
    _library.impl("membranes", _membranes, _device)
    _library.impl("spiking_backward", _backward, _device)


@torch.library.register_fake("robust_snn::spiking_forward", lib=_library)
def _forward_fake(current: Tensor, *flat: Any) -> tuple[Tensor, Tensor]:
    args = _call(flat).args
    sizes = args.saved_steps, current.shape[1], current.shape[2:].numel()
    return empty_stack(current, args.steps), current.new_empty(sizes, dtype=torch.uint8)


@torch.library.register_fake("robust_snn::membranes", lib=_library)
def _membranes_fake(current: Tensor, *flat: Any) -> Tensor:
    return empty_stack(current, _call(flat).args.steps, torch.float32)


@torch.library.register_fake("robust_snn::spiking_backward", lib=_library)
def _backward_fake(
    upstream: Tensor,
    current: Tensor | None,
    saved_bytes: Tensor | None,
    sharpness_map: Tensor | None,
    *flat: Any,
) -> tuple[Tensor, ...]:
    wanted, call = _wanted_call(flat)
    sample = upstream.shape[2:]
    steps, gain = call.args.steps, call.tensors.membrane_gain
    stored = storage_sample(sample, wanted.channels_last)
    dtype = torch.float32 if wanted.summed else upstream.dtype
    leading = 1 if wanted.summed else steps, upstream.shape[1]
    grad_current = upstream.new_empty(*leading, *stored, dtype=dtype)
    channels, gained = (sample[0] if wanted.affine else 0,), (steps if wanted.gains else 0,)
    on_gain = gain.shape if wanted.leaks and gain is not None else gained
    on_neurons = (sample if asked else (0,) for asked in (wanted.probability, wanted.rate))
    sizes = (channels, channels, on_gain, gained, *on_neurons)
    return logical_view(grad_current, wanted.channels_last), *(
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
        args: KernelArgs,
        sharpness_map: Tensor | None,
        current: Tensor,
        *tensors: Tensor | None,
    ) -> Tensor:
        run: Any = _forward_or_none
        if not _is_plain(current):
            run = torch.ops.robust_snn.spiking_forward
        out, saved_bytes = run(current, *tensors, backend, *args)
        needs: Any = LayerTensors(*ctx.needs_input_grad[-len(tensors) :])
        differ, recursive = LayerTensors(*tensors).leaks_differ, args.time == Time.RECURSION
        ctx.wants = (
            needs.scale or needs.shift,
            (needs.membrane_gain and not differ) or needs.input_gain,
            needs.probability,
            needs.membrane_gain and differ and recursive,  # other rules know the drive alone
            needs.rate and recursive,
        )
        ctx.save_for_backward(
            current if args.recomputes or any(ctx.wants) else None,
            saved_bytes if args.saved_steps else None,
            sharpness_map,
            *tensors,
        )
        ctx.backend, ctx.args = backend, args
        ctx.constant, ctx.channels_last = current.shape[0] == 1, is_channels_last(current)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        current, saved_bytes, sharpness_map, *tensors = ctx.saved_tensors
        args, gradient = ctx.args, upstream[0]
        once = not ctx.constant and _gives_same_steps(args, gradient, LayerTensors(*tensors))
        wanted = Wanted(ctx.constant or once, ctx.channels_last, *ctx.wants)
        run: Any = _backward_or_none
        if not _is_plain(gradient) or torch.is_grad_enabled():  # then the operator refuses
            run = torch.ops.robust_snn.spiking_backward
        on_current, *on_tensors = run(
            gradient, current, saved_bytes, sharpness_map, *wanted, *tensors, ctx.backend, *args
        )
        if once:  # what came back is the sum over the steps, which float16 might not hold
            on_current = (on_current / len(gradient)).to(gradient.dtype).expand(gradient.shape)
        elif wanted.summed:
            on_current = on_current.to(gradient.dtype)
        *on_tensors, on_rate = on_tensors
        none_for_keys = None, None
        gradients = None, None, None, on_current, *on_tensors, *none_for_keys, on_rate, None
        return tuple(
            g if need else None for g, need in zip(gradients, ctx.needs_input_grad, strict=True)
        )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a kernel may run at once: nobody traces, and the tensor is none that pretends.

    An operator with so many arguments costs as much time as launching the kernel itself.
    """
    return type(tensor) is Tensor and not torch.compiler.is_compiling()


def _gives_same_steps(args: KernelArgs, upstream: Tensor, tensors: LayerTensors) -> bool:
    """Whether the gradient on currents is the same at every step.

    An average over time is; a slope per neuron leaves a constant gradient constant, unless gates
    differ between the steps.
    """
    if torch.compiler.is_compiling() or tensors.input_gain is not None:
        return False
    if args.time == Time.RATE_SLOPE:
        return args.gating != Randomness.DRAW and is_one_step(upstream)
    return args.time == Time.AVERAGE


def compiled_spiking_loop(
    backend: str, current: Tensor, dynamics: Dynamics, rule: TimeRule, inputs: LayerInputs
) -> Tensor:
    """Spikes `[T, B, ...]` from the kernels of a backend; see `spiking_loop`, which checks."""
    sharpness_map = rule.sharpness if isinstance(rule, Recursion) else None
    tensors = layer_tensors(inputs)
    if _is_plain(current) and _needs_no_gradient(current, sharpness_map, *tensors):
        args = kernel_args(dynamics, rule, inputs, saves=False)
        with ready_to_launch(backend, current):
            spikes: Tensor = _kernels(backend).run_forward(args, current, tensors)[0]
        return spikes
    args = kernel_args(dynamics, rule, inputs)
    return _SpikingLoop.apply(backend, args, sharpness_map, current, *tensors)


def _needs_no_gradient(*tensors: Tensor | None) -> bool:
    """Whether no derivative, backward or forward, will be asked for, and no transform is on."""
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return False
    return not torch.is_grad_enabled() or not any(
        tensor.requires_grad for tensor in tensors if tensor is not None
    )


@torch.no_grad()
def compiled_membranes(
    backend: str, current: Tensor, dynamics: Dynamics, inputs: LayerInputs
) -> Tensor:
    """`v - threshold` of every step, `[T, B, ...]`."""
    inputs = inputs._replace(gate=None)
    args = kernel_args(dynamics, TRIANGLE_RECURSION, inputs)
    return torch.ops.robust_snn.membranes(current, *layer_tensors(inputs), backend, *args)
