"""Twin neurons: ours in the place of another library's, for the length of an attack's call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.foreign.library import Library, Unreadable, library
from robust_snn.foreign.spike_function import step_of, swapping
from robust_snn.gradients import GradientMode, Own
from robust_snn.kernels import (
    Dynamics,
    Recursion,
    WidthBySpread,
    spiking_loop,
)
from robust_snn.neurons.pass_settings import layer_gradient
from robust_snn.utils.errors import InputError

UNCHECKED = "it has not run yet"
STEPWISE = "the net calls it once a step"
SILENT = "it has not fired on the images that were compared"


class TwinNeuron(nn.Module):
    """Maps currents to spikes like the neuron that it replaces, with any of our gradient modes.

    Where the dynamics of the neuron can be read, our kernels run in its place. Elsewhere the
    neuron itself runs, with another surrogate.

    Args:
        node: The neuron; it stays a child of its own net.
        owner: Its library.
        folded: Whether the neuron takes single steps, which then come as one batch `[T * B, ...]`.

    Attributes:
        refusal: Why the neuron itself runs; None where our kernels do. While it is `SILENT`, its
            spikes are its own and their gradient is that of our kernels.
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
        spikes = spikes.flatten(0, 1) if self.folded else spikes
        return (spikes, *[None] * self.others) if self.others else spikes

    def _fire(self, current: Tensor) -> Tensor:
        gradient = layer_gradient(self)
        reason = self.refuses(gradient.mode)
        if reason is not None:
            kind = type(self.node).__name__
            raise InputError(
                f"{gradient.mode.name} needs our neurons in the place of {kind}, and {reason}; "
                "choose bptt with a surrogate, or ste"
            )
        if self.refusal not in (None, SILENT):
            rule = gradient.rule(Dynamics())
            assert isinstance(rule, Recursion)
            with swapping([(self.node, self.owner)], rule.surrogate, rule.detach_reset):
                return self._run(current)
        dynamics = self.owner.read(self.node)
        rule = gradient.rule(dynamics)
        if isinstance(rule, WidthBySpread):  # which the reset passes as in the network itself
            rule = replace(rule, detach_reset=self.owner.detaches(self.node))
        ours = spiking_loop(current, dynamics, rule)
        if self.refusal is None or gradient.mode.other_forward:
            return ours
        with torch.no_grad():
            spikes = self._run(current)
            fired = spikes.transpose(0, 1).flatten(1).any(1)
        self.fired = fired if fired.any() else None
        return ours + (spikes - ours).detach()

    def refuses(self, mode: GradientMode) -> str | None:
        """Why a mode cannot reach the neuron, if it cannot: it needs ours in its place."""
        if self.refusal in (None, SILENT, UNCHECKED):
            return None
        rule = mode.rule(Dynamics())
        if not isinstance(rule, Recursion):
            return self.refusal
        try:
            self.owner.swap(self.node, step_of(self.node, self.owner), rule.detach_reset)
        except InputError as error:
            return str(error)
        return None

    def _run(self, current: Tensor) -> Tensor:
        """Spikes `[T, B, ...]` of the neuron itself."""
        if not self.folded:
            return self._spikes(self.node(current))
        return torch.stack([self._spikes(self.node(step)) for step in current.unbind(0)])

    def _spikes(self, out: Any) -> Tensor:
        self.others = len(out) - 1 if isinstance(out, tuple) else 0
        return out[0] if isinstance(out, tuple) else out

    def learn(self, found: str | None) -> None:
        """Takes over what a comparison found; see `refusal`."""
        if found == SILENT and self.fired is not None:
            found = "it fires in single precision only"
        if self.refusal in (UNCHECKED, SILENT) or (self.refusal is None and found != SILENT):
            self.refusal = found
        self.fired = None

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
