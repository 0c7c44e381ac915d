"""Convolutions over time as attacks run them: fixed weights, a gradient on the input alone.

Their backward pass runs once, not `T` times, where the gradient is the same at every step. That is
so for BPTR, RGA and HART with a static image, a readout that averages over time and nothing random:
their rules then pass on the same gradient at every step, layer after layer; HART averages over time
by itself, so gates and noise do not matter to it. It is not assumed: such a gradient arrives as one
step that is expanded over time, which every layer keeps; any other is computed at every step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.kernels.convolution.break_even import break_even
from robust_snn.kernels.convolution.constant_gradients import one_step_suffices, unread_input

SPARSE = ("never", "auto", "always")
FEWEST_CHANNELS = 16  # of a group, which are read together: with fewer, there is little to skip
MOST_CHANNELS = 8176  # of a group, that the entries of a list of events can tell apart
SAMPLED = 4  # images of a batch that "auto" counts the spikes of


class Geometry(NamedTuple):
    """The numbers of a convolution, as `torch.nn.functional.conv2d` takes them."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def can_convolve(module: nn.Conv2d) -> bool:
    """Whether `convolve` can run this module: its weights are fixed and its padding plain."""
    plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return plain and not module.weight.requires_grad


def convolve(
    x: Tensor, module: nn.Conv2d, sparse: str = "never", weight: Tensor | None = None
) -> Tensor:
    """Convolves every step of `[T, B, C, H, W]`; weights get no gradient.

    Args:
        x: Input `[T, B, C, H, W]`.
        module: A convolution for which `can_convolve` holds.
        sparse: On CPUs, `"auto"` computes it from the spikes of its input, skipping the silent
            ones, where so few spike that this machine is faster that way; `"always"` wherever it
            reads spikes.
        weight: The weights of the module in another type or layout, which is faster to read.

    Returns:
        `[T, B, out, H', W']`, in the memory layout that the convolution gives.
    """
    bias, padding = module.bias, module.padding
    weight = module.weight if weight is None else weight
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    # where a kernel has one column, oneDNN crashes on images of one column if it is dilated
    dilation = tuple(
        d if size > 1 else 1 for d, size in zip(module.dilation, module.kernel_size, strict=True)
    )
    geometry = Geometry(module.stride, tuple(map(int, padding)), dilation, module.groups)
    out: Tensor = _Convolution.apply(x, weight, bias, geometry, sparse)
    return out


def convolution_input_gradient(
    shape: tuple[int, ...], weight: Tensor, upstream: Tensor, geometry: Geometry
) -> Tensor:
    """Gradient of a convolution of `[B, C, H, W]` on its input, in the layout of `upstream`.

    `torch.nn.grad.conv2d_input` does the same with an expanded input, which is then copied to
    memory although no value of it is read, and which decides that the result lies channels-first.
    """
    last = upstream.dim() == 4 and upstream.is_contiguous(memory_format=torch.channels_last)
    if not last and _is_product(weight, geometry):
        return _pointwise_input_gradient(shape, weight, upstream, geometry.stride)
    unread = unread_input(upstream, torch.Size(shape))
    stride, padding, dilation, groups = geometry
    wanted, none = (True, False, False), [0] * len(stride)
    gradient: Tensor = torch.ops.aten.convolution_backward(
        upstream, unread, weight, None, stride, padding, dilation, False, none, groups, wanted
    )[0]
    return gradient


def _is_product(weight: Tensor, geometry: Geometry) -> bool:
    """Whether a product of matrices is the faster way: on CPUs, with kernels of one pixel."""
    plain = weight.shape[2:] == (1, 1) and geometry[1:] == ((0, 0), (1, 1), 1)
    return plain and weight.device.type == "cpu"


def _pointwise_input_gradient(
    shape: tuple[int, ...], weight: Tensor, upstream: Tensor, stride: tuple[int, ...]
) -> Tensor:
    """The same for kernels of one pixel, as a product of matrices.

    The convolution library copies what it reads of a strided one, which takes four times as long.
    """
    product = (weight.flatten(1).T @ upstream.flatten(2)).unflatten(2, upstream.shape[2:])
    if stride == (1, 1):
        return product
    gradient = upstream.new_zeros(shape)
    gradient[..., :: stride[0], :: stride[1]] = product
    return gradient


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        sparse: str,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.geometry = x.shape, geometry
        images, out = x.flatten(0, 1), None
        wanted = sparse in ("auto", "always") and _can_be_sparse(x, weight, geometry)
        if wanted and (sparse == "always" or _is_sparse(images, weight, geometry)):
            from robust_snn.kernels.convolution.event_driven import event_driven_convolution

            out = event_driven_convolution(
                images, weight, bias, geometry.stride[0], geometry.padding[0]
            )
        if out is None:
            out = F.conv2d(images, weight, bias, *geometry)
        return out.unflatten(0, x.shape[:2])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        gradient = upstream[0]
        if one_step_suffices(gradient):
            gradient = gradient[:1]
        lead = gradient.shape[:2]
        shape = (lead.numel(), *ctx.shape[2:])
        out = convolution_input_gradient(shape, weight, gradient.flatten(0, 1), ctx.geometry)
        return out.unflatten(0, lead).expand(ctx.shape), None, None, None, None


def _can_be_sparse(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether there is a kernel; an input without a time axis is no spikes."""
    (row, column), (top, left), dilation, groups = geometry
    least = 1 if groups == 1 else FEWEST_CHANNELS
    plain = (row, top, dilation) == (column, left, (1, 1)) and x.numel() > 0
    plain = plain and least <= weight.shape[1] <= MOST_CHANNELS
    return plain and len(x) > 1 and x.device.type == "cpu" and x.dtype != torch.float64


def _is_sparse(images: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether so few neurons spike that events are faster, judged by a few of `[B, C, H, W]`."""
    if weight.shape[1] < FEWEST_CHANNELS:
        return False
    most = break_even(images, weight, geometry.stride[0], geometry.padding[0])
    if most == 0:
        return False
    from robust_snn.kernels.convolution.event_driven import count_spikes

    count = len(images)
    step = max(1, count // SAMPLED)
    spikes, values = count_spikes(images, step), images.numel() // count * -(-count // step)
    return spikes is not None and spikes < most * values
