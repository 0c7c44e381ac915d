"""Spike operations and energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from robust_snn.metrics.activity import Activity, Synapse, record
from robust_snn.utils.errors import unknown

# Energy of one operation in picojoules: 32-bit arithmetic in 45 nm (Horowitz, ISSCC 2014), which
# the field takes for spiking hardware.
MAC_PICOJOULES, SOP_PICOJOULES = 4.6, 0.9

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
WHOLE = 1e-3  # how far rounding may carry a mean of spikes from a whole number of them


@dataclass(frozen=True)
class Operations:
    """Operations per image.

    Attributes:
        spikes: Spikes of all neurons.
        sops: Spike operations: additions that a spike causes at the synapses behind it.
        macs: Multiplications of layers whose input is no spikes, as the first under direct coding.
    """

    spikes: float
    sops: float
    macs: float


def fan_out(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Synapses that every input of a layer has, exact at the borders.

    Args:
        layer: A convolution or linear layer.
        shape: Shape of one input, such as `(C, H, W)`.

    Returns:
        `[*shape]`.
    """
    if isinstance(layer, nn.Linear):
        return torch.full(shape, float(layer.out_features), device=layer.weight.device)
    if not isinstance(layer, _ConvNd):
        raise TypeError(f"{type(layer).__name__} is no convolution or linear layer")
    window: Any = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    x = torch.zeros(1, *shape, device=layer.weight.device)
    ones = torch.ones_like(layer.weight, dtype=x.dtype)

    def connections(image: Tensor) -> Tensor:
        if layer.transposed:
            return TRANSPOSED[len(shape) - 1](image, ones, None, *window).sum()
        # not `layer(image)`: subclasses may take a time axis
        same: Any = layer._conv_forward
        return same(image, ones, None).sum()

    return torch.func.grad(connections)(x)[0]


def operations(
    activity: Activity, static: Literal["each step", "once"] = "each step"
) -> Operations:
    """Operations per image.

    What a layer gets of an image counts as spikes where all values are whole numbers of them;
    average pooling is merged into the synapses behind it: a spike is an addition at each of them
    for every window that holds it, and costs nothing at a border that is dropped. Anything else is
    multiplied, a MAC per synapse: images, and event frames that hold counts of 1/255 per event.
    Binary frames are spikes, whatever the images beside them hold. In attention a spike of a query
    is added at every key, and one of a value at every query; masks of spikes cost nothing.

    Args:
        activity: What `record` collected.
        static: Whether a layer that sees a static image multiplies at each step, as energy is
            usually reported, or once, as it runs here.

    Raises:
        InputError: If `static` is not known, or nothing is recorded.
    """
    if static not in ("each step", "once"):
        raise unknown("count of static input", static, ("each step", "once"))
    steps, batch = activity.last.spikes.shape[:2]
    spikes = sum(float(layer.spikes.sum(dtype=torch.float64)) for layer in activity.layers.values())
    sops = macs = 0.0
    for synapse in activity.synapses.values():
        repeats = steps if static == "each step" and is_static(synapse) else 1
        fan = fan_of(synapse)
        events, spiking = events_of(synapse, batch)
        added = (events.detach() * fan).flatten(2).sum((0, 2), dtype=torch.float64)
        sops += float(added[spiking].sum()) * repeats
        macs += float(fan.sum()) * len(events) * int((~spiking).sum()) * repeats
    images = batch if activity.images is None else activity.images
    return Operations(spikes / images, sops / images, macs / images)


def profile(net: nn.Module, x: Tensor) -> Operations:
    """Operations per image of one pass of a network over images or event frames `x`, of which its
    layers get the same batches."""
    with torch.no_grad(), record(net) as activity:
        net(x)
    return operations(activity)


def energy(operations: Operations) -> float:
    """Energy per image in joules: 4.6 pJ per MAC and 0.9 pJ per spike operation."""
    return (MAC_PICOJOULES * operations.macs + SOP_PICOJOULES * operations.sops) * 1e-12


def fan_of(synapse: Synapse) -> Tensor:
    """Additions that a spike in every entry of the input causes, `[*shape]`."""
    shape = input_shape(synapse)
    if synapse.sums is None:
        return fan_out(synapse.layer, shape)
    return torch.full(shape, float(synapse.sums), device=synapse.x.device)


def input_shape(synapse: Synapse) -> tuple[int, ...]:
    """Shape of one input of the layer."""
    layer = synapse.layer
    if synapse.sums is not None:
        return tuple(synapse.x.shape[2:])
    axes = len(layer.kernel_size) + 1 if isinstance(layer, _ConvNd) else 1
    return tuple(synapse.x.shape[-axes:])


def is_static(synapse: Synapse) -> bool:
    """Whether the layer sees one input of each image for all steps, `[1, B, *shape]`."""
    return synapse.x.dim() == len(input_shape(synapse)) + 2 and len(synapse.x) == 1


def events_of(synapse: Synapse, batch: int) -> tuple[Tensor, Tensor]:
    """Spikes in every entry of the layer's input, and of which images it is spikes at all.

    Returns:
        `[T, B, *shape]`, whose gradient is that of the input, or `[1, B, *shape]`; and bool `[B]`.
        Of a layer that gets other batches all at once, `[rows, 1, *shape]` and `[1]`.
    """
    counts = (synapse.x * synapse.events).reshape(-1, 1, *input_shape(synapse))
    if len(counts) % batch == 0:
        counts = counts.reshape(-1, batch, *counts.shape[2:])
    given = counts.detach()
    rounded = given.round()
    whole = ((given - rounded).abs() < WHOLE) & (given >= 0)
    return counts + (rounded - given), whole.flatten(2).all(2).all(0)
