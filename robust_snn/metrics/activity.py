"""Recording what happens inside a spiking network, by hooks that are gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from robust_snn.kernels import Dynamics
from robust_snn.kernels.spiking.replay import membrane_potential
from robust_snn.kernels.spiking.spec import transformed
from robust_snn.metrics.pooled_spikes import PooledSpikes
from robust_snn.metrics.uncounted_products import UncountedProducts
from robust_snn.models.readout import Readout
from robust_snn.models.spiking_attention import SpikeProduct
from robust_snn.neurons import LIF, StochasticGate
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

SYNAPSES = (_ConvNd, nn.Linear)
COUNTED = (*SYNAPSES, SpikeProduct, LIF)  # layers that answer for the products inside of them


@dataclass(frozen=True)
class LayerActivity:
    """One layer of spiking neurons in one forward pass.

    Attributes:
        current: Input currents, normalised, before the neurons' own gain, `[T, B, *shape]`.
        spikes: Outgoing spikes, those that pass the gate, `[T, B, *shape]`.
        gain: Factor on the current per step, `[T]`; DLIF's code form trains it.
        decay: Leak per step, `[T]`, or per neuron, `[T, 1, *shape]`; DLIF's paper form trains it.
        dynamics: Constants of the neurons.
        gated: Whether a gate let only some of the spikes pass.
    """

    current: Tensor
    spikes: Tensor
    gain: Tensor
    decay: Tensor
    dynamics: Dynamics
    gated: bool = False

    @property
    def drive(self) -> Tensor:
        """What is added to the membrane, `[T, B, *shape]`."""
        return self.current * _per_step(self.gain, self.current)

    @property
    def distance(self) -> Tensor:
        """Membranes before firing less the threshold, `[T, B, *shape]`.

        The gradient does not pass resets. What `NoisyLIF` of the double form adds to its membranes,
        and by what other neurons adapt or redraw theirs, is left out.
        """
        d, fired = self.dynamics, None if self.gated else self.spikes
        v = membrane_potential(
            self.drive, fired, self.decay, threshold=d.unit, reset=d.reset, v_reset=d.v_reset
        )
        return v - d.threshold


@dataclass(frozen=True)
class Synapse:
    """The input of one convolution or linear layer in one forward pass.

    Attributes:
        layer: The layer, with weights; or a product of spikes with other tensors, as of attention.
        x: Its input, with `B` images in every leading row: `[T, B, ...]`, or `[T * B, ...]`.
        events: Input spikes behind one unit of `x`, or of each of its entries: the area of an
            average pooling, the steps of a time mean. `x * events` counts spikes.
        sums: Of a product: to how many sums every entry of `x` is added.
    """

    layer: nn.Module
    x: Tensor
    events: float | Tensor
    sums: int | None = None


@dataclass
class Activity:
    """What `record` collected; the last forward pass inside it counts.

    Attributes:
        layers: Spiking layers by name, in the order of the forward pass.
        synapses: Layers with weights, and products of spikes, by name, in that order.
        images: Number of images that the network gets, where `record` was told.
        uncounted: Names of products of tensors that ran outside of all these.
    """

    layers: dict[str, LayerActivity] = field(default_factory=dict)
    synapses: dict[str, Synapse] = field(default_factory=dict)
    images: int | None = None
    uncounted: set[str] = field(default_factory=set)

    @property
    def regrouped(self) -> bool:
        """Whether layers got other batches than the images: flips of them too, or one by one."""
        batches = {layer.spikes.shape[1] for layer in self.layers.values()}
        return self.images is not None and bool(batches - {self.images})

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
def record(net: nn.Module, images: int | None = None) -> Iterator[Activity]:
    """Records the activity of a network; its hooks are removed at the end.

        with record(net) as activity:
            net(images)
        rates = firing_rates(activity)

    Tensors keep their graph, so that measures can be losses; use `torch.no_grad()` otherwise. A
    layer that one pass uses again, as in every step of a loop, is recorded as `name#2`, `name#3`.

    Args:
        net: A network of `robust_snn` neurons, or a `Victim`, of whose draws the last one counts.
        images: Number of images that it gets, if its layers may get other batches.
    """
    recorder = _Recorder(images)
    whole = net.net if isinstance(net, Victim) else net
    with ExitStack() as stack:
        for name, module in net.named_modules():
            hook = recorder.hook(name, module)
            if hook is not None:
                handle = module.register_forward_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            if isinstance(module, COUNTED):
                for handle in recorder.inside(module):
                    stack.callback(handle.remove)
        stack.callback(whole.register_forward_pre_hook(recorder.begin).remove)
        stack.callback(whole.register_forward_hook(recorder.end, always_call=True).remove)
        stack.enter_context(recorder.pooled)
        stack.enter_context(recorder.products)
        yield recorder.activity


class _Recorder:
    """Makes the hooks."""

    def __init__(self, images: int | None) -> None:
        self.products, self.pooled = UncountedProducts(), PooledSpikes()
        self.activity = Activity(images=images, uncounted=self.products.names)
        self.in_pass = False

    def begin(self, module: nn.Module, args: Any) -> None:
        self.activity.layers.clear()
        self.activity.synapses.clear()
        self.activity.uncounted.clear()
        self.in_pass = True

    def end(self, module: nn.Module, args: Any, out: Any) -> None:
        self.in_pass = False

    def hook(self, name: str, module: nn.Module) -> Any:
        if isinstance(module, LIF):
            return lambda m, args, kwargs, out: self.neurons(name, m, args[0], kwargs, out)
        if isinstance(module, SYNAPSES):
            return lambda m, args, kwargs, out: self.synapse(name, m, args[0])
        if isinstance(module, SpikeProduct):
            return lambda m, args, kwargs, out: self.product(name, m, args)
        if isinstance(module, Readout) and module.decay == 1.0:
            return lambda m, args, kwargs, out: self.read_out(args[0], out)
        return None

    def inside(self, module: nn.Module) -> tuple[RemovableHandle, RemovableHandle]:
        """Hooks by which products that a layer makes are known as its own."""
        return (
            module.register_forward_pre_hook(self.products.enter_layer),
            module.register_forward_hook(self.products.leave_layer, always_call=True),
        )

    def neurons(
        self, name: str, neuron: LIF, current: Tensor, kwargs: dict[str, Any], spikes: Tensor
    ) -> None:
        if kwargs.get("affine") is not None:
            current = transformed(current, kwargs["affine"])
        steps = spikes.shape[0]
        constant = current.new_ones(steps)
        membrane_gain, input_gain = (constant if g is None else g for g in neuron.gains(steps))
        self.activity.layers[self._place(name, self.activity.layers)] = LayerActivity(
            current.expand(spikes.shape),
            spikes,
            neuron.dynamics.gain * input_gain,
            neuron.dynamics.decay * membrane_gain,
            neuron.dynamics,
            neuron.gate is not None,
        )

    def product(self, name: str, layer: SpikeProduct, factors: tuple[Tensor, ...]) -> None:
        for number, (spikes, sums) in enumerate(layer.additions(*factors)):
            self.synapse(f"{name}.{number}", layer, spikes, sums)

    def synapse(self, name: str, layer: nn.Module, x: Tensor, sums: int | None = None) -> None:
        events: float | Tensor = 1.0
        if self.pooled.has(x):
            events = torch.where(x > 0, self.pooled.behind(x) / x, 1.0).detach()
        place = self._place(name, self.activity.synapses)
        self.activity.synapses[place] = Synapse(layer, x, events, sums)

    def read_out(self, x: Tensor, out: Tensor) -> None:
        """Notes a mean over time, which takes steps as `[T, B, ...]` or leaves them."""
        spikes = self.pooled.behind(x)
        self.pooled.note(out, spikes.sum(0) if out.shape == x.shape[1:] else spikes.view_as(out))

    def _place(self, name: str, recorded: dict[str, Any]) -> str:
        """The name of a use of a module; outside of a pass a second use replaces the first."""
        if not self.in_pass:
            recorded.pop(name, None)
            return name
        uses = 1 + sum(key == name or key.startswith(f"{name}#") for key in recorded)
        return name if uses == 1 else f"{name}#{uses}"


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
