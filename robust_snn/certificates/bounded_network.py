"""A copy of a network on which bounds can be computed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn

from robust_snn.certificates.interval import Interval
from robust_snn.certificates.spike_bounds import MembraneBounds, bound_spikes
from robust_snn.gradients import TakesModes
from robust_snn.models.time_layers import SimplexSum
from robust_snn.neurons import LIF, NoisyModule
from robust_snn.neurons.pass_settings import is_neuron
from robust_snn.utils.errors import InputError

TOLERANCE = 1e-4  # of membranes, in the unit of the threshold

# What stands in for a spiking layer: from the layer, its current and its steps to spikes.
Firing = Callable[[LIF, Any, int], Any]


class BoundedNetwork:
    """A network in double precision whose spiking layers can be replaced by what bounds them.

    Args:
        net: A deterministic network of this package. It is copied; the copy is in eval mode.
        tolerance: A spike counts as decided only where its membrane is farther than this from the
            threshold. So the bounds hold for the float32 network as well, as long as its membranes
            are rounded by less.

    Raises:
        InputError: If the network draws random numbers, or has neurons of other packages.
    """

    def __init__(self, net: nn.Module, tolerance: float = TOLERANCE) -> None:
        check_bounded(net)
        self.original = copy.deepcopy(net).eval().requires_grad_(False)
        self.net = copy.deepcopy(self.original).double()
        self.tolerance = tolerance

    def run(self, x: Any, firing: Firing) -> Any:
        """The network's forward pass with something else in place of its spiking layers."""
        with bounded_layers(self.net, firing):
            return self.net(x)

    @torch.no_grad()
    def bounds(
        self, images: Interval, first: Interval | None = None
    ) -> tuple[Interval, list[MembraneBounds]]:
        """Bounds of the logits `[B, K]`, and of every spiking layer in order.

        Args:
            images: Bounds of the pixels, `[B, C, H, W]` or `[B, T, C, H, W]`.
            first: Bounds of the first layer's spikes, where they are known better than from the
                bounds of its currents.
        """
        layers: list[MembraneBounds] = []

        def bound(layer: LIF, current: Interval, steps: int) -> Interval:
            bounds = bound_spikes(layer, current, steps, self.tolerance)
            if not layers and first is not None:
                bounds = bounds._replace(spikes=first)
            layers.append(bounds)
            return bounds.spikes

        return self.run(images, bound), layers

    def first_layer(self, x: Any) -> tuple[LIF, Any, int]:
        """The first spiking layer to run, its current on images or on bounds, and its steps."""

        def stop(layer: LIF, current: Any, steps: int) -> None:
            raise _Reached(layer, current, steps)

        try:
            self.run(x, stop)
        except _Reached as reached:
            return reached.found
        raise InputError(
            f"{type(self.net).__name__} has no spiking layer of this package, whose bounds are "
            "known; smoothing certifies any network"
        )


class _Reached(Exception):  # noqa: N818 - it ends a pass early and is no error
    def __init__(self, *found: Any) -> None:
        super().__init__()
        self.found: Any = found


@contextmanager
def bounded_layers(net: nn.Module, firing: Firing) -> Iterator[None]:
    """While inside, something else stands in for the spiking layers of a network.

    Layers that know no bounds of their inputs take them too.
    """

    def fire(layer: LIF, current: Any, steps: int, affine: None = None, noise: None = None) -> Any:
        return firing(layer, current, steps)

    changed: list[tuple[nn.Module, str]] = []
    for module in net.modules():
        if isinstance(module, LIF):
            changed.append((module, "fire"))
            module.fire = MethodType(fire, module)  # type: ignore[method-assign]
        elif isinstance(module, SimplexSum):
            changed.append((module, "forward"))
            module.forward = MethodType(_weighted_sum, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)


def _weighted_sum(module: SimplexSum, a: Any, b: Any) -> Any:
    return a * module.weight[0] + b * module.weight[1]


def check_bounded(net: nn.Module) -> None:
    """Raises `InputError` unless a network has bounds: deterministic, with neurons of ours."""
    name = type(net).__name__
    noisy = [n for n, m in net.named_modules() if isinstance(m, NoisyModule) and m.stochastic]
    if noisy:
        raise InputError(
            f"{name} draws random numbers ({noisy[0]}), and bounds are for deterministic networks; "
            "randomised smoothing certifies it: noise='rate' where it codes pixels as random "
            "spikes, noise='gaussian(sigma=0.25)' otherwise"
        )
    others = [n for n, m in net.named_modules() if isinstance(m, TakesModes)]
    ours = [m for m in net.modules() if is_neuron(m)]
    if others or not ours or not all(isinstance(m, LIF) for m in ours):
        raise InputError(
            f"bounds follow the spiking layers of this package, and {name} has others; randomised "
            "smoothing certifies any network: noise='gaussian(sigma=0.25)'"
        )
    without = [(n, m) for n, m in net.named_modules() if not getattr(m, "bounded", True)]
    if without:
        place, module = without[0]
        raise InputError(
            f"there are no bounds of a {type(module).__name__} ({place}); randomised smoothing "
            "certifies any network: noise='gaussian(sigma=0.25)'"
        )
