"""Recording what happens inside a spiking network, by hooks that are gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.models.readout import MeanPool, Readout
from robust_snn.neurons import LIF, StochasticGate
from robust_snn.utils.errors import InputError


@dataclass(frozen=True)
class LayerActivity:
    """One layer of spiking neurons in one forward pass.

    Attributes:
        current: Input currents, normalised, before the neurons' own gain, `[T, B, *shape]`.
        spikes: Outgoing spikes, those that pass the gate, `[T, B, *shape]`.
        gain: Factor on the current per step, `[T]`; DLIF's code form trains it.
        decay: Leak per step, `[T]`; DLIF's paper form trains it.
    """

    current: Tensor
    spikes: Tensor
    gain: Tensor
    decay: Tensor

    @property
    def drive(self) -> Tensor:
        """What is added to the membrane, `[T, B, *shape]`."""
        return self.current * _per_step(self.gain, self.current)


@dataclass(frozen=True)
class Synapse:
    """The input of one convolution or linear layer in one forward pass.

    Attributes:
        layer: The layer, with weights.
        x: Its input, with `B` images in every leading row: `[T, B, ...]`, or `[T * B, ...]`.
        events: Input spikes behind one unit of `x`: the area of an average pooling, the steps of a
            time mean. `x * events` counts spikes. Where windows differ in size, a number for each
            entry of `x`.
    """

    layer: nn.Module
    x: Tensor
    events: float | Tensor


@dataclass
class Activity:
    """What `record` collected; the last forward pass inside it counts.

    Attributes:
        layers: Spiking layers by name, in the order of the forward pass.
        synapses: Layers with weights by name, in that order.
    """

    layers: dict[str, LayerActivity] = field(default_factory=dict)
    synapses: dict[str, Synapse] = field(default_factory=dict)

    @property
    def last(self) -> LayerActivity:
        """The last spiking layer, which MS-MPPD looks at.

        Raises:
            InputError: If no spiking layer ran.
        """
        if not self.layers:
            raise InputError("nothing is recorded: run the network inside `record`")
        return next(reversed(self.layers.values()))


@contextmanager
def record(net: nn.Module) -> Iterator[Activity]:
    """Records the activity of a network; its hooks are removed at the end.

        with record(net) as activity:
            net(images)
        rates = firing_rates(activity)

    Tensors keep their graph, so that measures can be losses; use `torch.no_grad()` otherwise.

    Args:
        net: A network of `robust_snn` neurons, or a `Victim`.
    """
    recorder = _Recorder()
    with ExitStack() as stack:
        for name, module in net.named_modules():
            hook = recorder.hook(name, module)
            if hook is not None:
                handle = module.register_forward_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        yield recorder.activity


class _Recorder:
    """Makes the hooks; `events` tells what a pooled value stands for, by the storage it lies in."""

    def __init__(self) -> None:
        self.activity = Activity()
        # by storage, which the tensor keeps alive; a number for all entries, or for each
        self.events: dict[int, tuple[Tensor, float | Tensor]] = {}

    def hook(self, name: str, module: nn.Module) -> Any:
        if isinstance(module, LIF):
            return lambda m, args, kwargs, out: self.neurons(name, m, args[0], kwargs, out)
        if isinstance(module, nn.Conv2d | nn.Linear):
            return lambda m, args, kwargs, out: self.synapse(name, m, args[0])
        if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d | MeanPool | Readout):
            return lambda m, args, kwargs, out: self.pool(m, args[0], out)
        return None

    def neurons(
        self, name: str, neuron: LIF, current: Tensor, kwargs: dict[str, Any], spikes: Tensor
    ) -> None:
        if kwargs.get("affine") is not None:
            scale, shift = (a.view(-1, *[1] * (current.dim() - 3)) for a in kwargs["affine"])
            current = current * scale + shift
        steps = spikes.shape[0]
        constant = current.new_ones(steps)
        membrane_gain, input_gain = (constant if g is None else g for g in neuron.gains(steps))
        self.activity.layers.pop(name, None)  # a second pass starts the order anew
        self.activity.layers[name] = LayerActivity(
            current.expand(spikes.shape),
            spikes,
            neuron.dynamics.gain * input_gain,
            neuron.dynamics.decay * membrane_gain,
        )

    def synapse(self, name: str, layer: nn.Module, x: Tensor) -> None:
        self.activity.synapses.pop(name, None)
        self.activity.synapses[name] = Synapse(layer, x, self._events(x))

    def pool(self, module: nn.Module, x: Tensor, out: Tensor) -> None:
        events = self._events(x)
        if isinstance(events, Tensor):
            return  # a mean of unequal windows: no whole number of spikes
        if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            averaged = _averaged(module, x, out)
        elif isinstance(module, Readout) and module.decay != 1.0:
            return  # weighted by age
        elif isinstance(module, MeanPool) and module.readout.decay != 1.0:
            return
        else:
            averaged = x.numel() / out.numel()
        self.events[out.untyped_storage().data_ptr()] = (out, averaged * events)

    def _events(self, x: Tensor) -> float | Tensor:
        pooled, events = self.events.get(x.untyped_storage().data_ptr(), (x, 1.0))
        if isinstance(events, Tensor):  # flattened meanwhile, as before a linear layer
            return events.expand(pooled.shape).reshape(x.shape)
        return events


def _averaged(pool: nn.AvgPool2d | nn.AdaptiveAvgPool2d, x: Tensor, out: Tensor) -> float | Tensor:
    """What the sum over a window is divided by: one number, or `[h, w]` where windows differ."""
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        rows, columns = map(_windows, x.shape[-2:], out.shape[-2:])
        area = rows[:, None] * columns
    else:
        window = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
        ones = torch.ones(1, 1, *x.shape[-2:])
        inside = F.avg_pool2d(ones, *window, divisor_override=1)
        mean = F.avg_pool2d(ones, *window, pool.count_include_pad, pool.divisor_override)
        area = (inside / mean)[0, 0]
    area = area.to(x.device)
    return float(area[0, 0]) if bool((area == area[0, 0]).all()) else area


def _windows(size: int, parts: int) -> Tensor:
    """Lengths of the windows of an adaptive pooling, which overlap where they do not divide."""
    start = torch.arange(parts)
    return (-(-(start + 1) * size // parts) - start * size // parts).float()


def firing_rates(activity: Activity) -> dict[str, float]:
    """Mean spikes per neuron and step of every layer."""
    return {name: float(layer.spikes.mean()) for name, layer in activity.layers.items()}


def mean_opening(net: nn.Module) -> float:
    """Mean opening probability over all gates of a network; 1 without gates.

    The StoG paper reports the mean over layers of their means; this is the mean over neurons.
    """
    gates = [m.opening.detach().flatten() for m in net.modules() if isinstance(m, StochasticGate)]
    return float(torch.cat(gates).mean()) if gates else 1.0


def _per_step(factor: Tensor, x: Tensor) -> Tensor:
    return factor.view(-1, *[1] * (x.dim() - 1))
