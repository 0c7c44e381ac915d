"""Twin neurons: ours in the place of another library's, for the length of an attack's call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.foreign.library import Library, Unreadable, library
from robust_snn.foreign.spike_function import SpikeFunction, swapping
from robust_snn.gradients import GradientMode, Own
from robust_snn.kernels import (
    Dynamics,
    RateSlope,
    Recursion,
    Surrogate,
    TimeAverage,
    spiking_loop,
)
from robust_snn.kernels.spiking.reference import differentiable_spikes
from robust_snn.neurons.pass_settings import layer_gradient
from robust_snn.utils.errors import InputError

UNCHECKED = "it has not run yet"
STEPWISE = "the net calls it once a step"
SILENT = "it has not fired on the images that were compared"


class TwinNeuron(nn.Module):
    """Maps currents to spikes like the neuron that it replaces, with any of our gradient modes.

    Where the dynamics of the neuron can be read, our kernels run in its place. Elsewhere the
    neuron itself runs, and the modes of the rate family get their gradient from its spikes.

    Args:
        node: The neuron; it stays a child of its own net.
        owner: Its library.
        folded: Whether the neuron takes single steps, which then come as one batch `[T * B, ...]`.

    Attributes:
        refusal: Why the neuron itself runs; None where our kernels do.
        steps: Number of steps in a call, if folded.
        fired: On which images it fired in the last call `[B]`, if it did and was `SILENT` before.
        others: How many values the neuron returns besides its spikes.
    """

    def __init__(self, node: nn.Module, owner: Library, folded: bool) -> None:
        super().__init__()
        self.gradient: GradientMode = Own()
        self._node = (node,)  # in a tuple, so that its weights are not listed twice
        self._owner = owner.name
        self.folded = folded
        self.refusal: str | None = UNCHECKED
        self.steps = 1
        self.fired: Tensor | None = None
        self._compared = False
        self.others = 0

    @property
    def node(self) -> nn.Module:
        """The neuron that it replaces."""
        return self._node[0]

    @property
    def owner(self) -> Library:
        """The library of that neuron."""
        return library(self._owner)

    @property
    def stepwise(self) -> bool:
        """Whether a call is a single step although the network runs all of them at once."""
        return not self.folded and self.owner.takes_one_step(self.node)

    def forward(self, x: Tensor) -> Any:
        """Maps `[T, B, ...]`, or `[T * B, ...]` if folded, to spikes of the same shape."""
        current = x.unflatten(0, (self.steps, -1)) if self.folded else x
        spikes = self._run(current) if self._compared else self._fire(current)
        if self.refusal == SILENT and not self._compared:
            self._note(spikes)
        spikes = spikes.flatten(0, 1) if self.folded else spikes
        return (spikes, *[None] * self.others) if self.others else spikes

    def _fire(self, current: Tensor) -> Tensor:
        dynamics = self._dynamics()
        gradient = layer_gradient(self)
        rule = gradient.rule(dynamics)
        if self.refusal is None:
            return spiking_loop(current, dynamics, rule)
        if isinstance(rule, Recursion):
            with swapping([(self.node, self.owner)], rule.surrogate, rule.detach_reset):
                return self._run(current)
        if self.stepwise:
            raise InputError(
                f"{gradient.mode.name} needs all steps of {type(self.node).__name__} at once, but "
                f"{STEPWISE}; choose bptt with a surrogate, or ste"
            )
        if isinstance(rule, RateSlope | TimeAverage):
            with torch.no_grad():
                spikes, distances = self._observe(current)
            return differentiable_spikes(rule, spikes, distances, dynamics.gain * current)
        kind = type(self.node).__name__
        raise InputError(
            f"{gradient.mode.name} needs our neurons in the place of {kind}, and {self.refusal}; "
            "choose bptt, bptr, rga or hart"
        )

    def _run(self, current: Tensor) -> Tensor:
        """Spikes `[T, B, ...]` of the neuron itself."""
        if not self.folded:
            return self._spikes(self.node(current))
        return torch.stack([self._spikes(self.node(step)) for step in current.unbind(0)])

    def _spikes(self, out: Any) -> Tensor:
        self.others = len(out) - 1 if isinstance(out, tuple) else 0
        return out[0] if isinstance(out, tuple) else out

    def _dynamics(self) -> Dynamics:
        """Its constants; those of an integrate-and-fire neuron where they cannot be read."""
        try:
            return self.owner.read(self.node)
        except Unreadable:
            return Dynamics(threshold=_threshold(self.node))

    def _observe(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and distances to the threshold, both `[T, B, ...]`."""
        seen: list[Tensor] = []

        def watch(z: Tensor) -> Tensor:
            seen.append(z)
            return step(z)

        step = SpikeFunction(Surrogate("triangle", 1.0), self.owner.strict)
        with self.owner.swap(self.node, watch, True):
            spikes = self._run(current)
        whole = [z for z in seen if z.shape == current.shape]
        steps = [z for z in seen if z.shape == current.shape[1:]]
        per_step = len(steps) // len(current)  # snnTorch asks twice, the second time to fire
        distances = whole[-1] if whole else torch.stack(steps[per_step - 1 :: per_step])
        return spikes, distances

    def learn(self, found: str | None) -> None:
        """Takes over what a comparison found; see `refusal`."""
        if found == SILENT and self.fired is not None:
            found = "it fires in single precision only"
        if self.refusal in (UNCHECKED, SILENT) or (self.refusal is None and found != SILENT):
            self.refusal = found
        self.fired = None

    @torch.no_grad()
    def _note(self, spikes: Tensor) -> None:
        """Notes on which images a neuron fired that was silent when it was compared."""
        fired = spikes.transpose(0, 1).flatten(1).any(1)
        self.fired = fired if fired.any() else None

    @contextmanager
    def comparing(self) -> Iterator[None]:
        """Inside, the neuron itself runs in every call."""
        self._compared = True
        try:
            yield
        finally:
            self._compared = False

    @torch.no_grad()
    def difference(self, x: Tensor, spikes: Tensor) -> str | None:
        """Why our kernels do not give the spikes that the neuron gave, if they do not."""
        if self.stepwise:
            return STEPWISE
        current = x.unflatten(0, (self.steps, -1)) if self.folded else x
        try:
            ours = spiking_loop(current, self.owner.read(self.node))
        except Unreadable as error:
            return str(error)
        wrong = int((ours.reshape(spikes.shape) != spikes).sum())
        return f"{wrong} of {spikes.numel()} spikes differ" if wrong else None


def _threshold(node: nn.Module) -> float:
    value = getattr(node, "v_threshold", getattr(node, "threshold", 1.0))
    return float(torch.as_tensor(value).float().mean())
