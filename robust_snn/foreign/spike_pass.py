"""A forward pass of somebody's network whose spike functions have another backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from robust_snn.foreign.graph_walk import cut
from robust_snn.foreign.image_axis import ImageAxis
from robust_snn.foreign.interception import Call, Exchange, function_name
from robust_snn.foreign.recurrence import Recurrence
from robust_snn.foreign.spike_exchanges import (
    Adapted,
    RateSoFar,
    Sloped,
    Stopped,
    Surrogated,
    nearest,
)
from robust_snn.foreign.spike_plan import PlannedCall, SpikeNeuron, SpikePlan
from robust_snn.foreign.staircase import Staircase
from robust_snn.kernels import Dynamics, RateSlope, Recursion, Rule, TimeAverage
from robust_snn.kernels.spiking.adaptive_surrogates import AdaptiveSurrogate
from robust_snn.neurons.pass_settings import LayerGradient
from robust_snn.utils.errors import InputError


class Outdated(Exception):
    """A spike function is another than when the network was first run."""


class SpikePass:
    """Listens to a forward pass and gives its spike functions the backward pass of a rule.

    Args:
        plan: The calls to expect.
        gradient: The gradient mode, with its statistics.
        verify: Whether spikes are compared with the functions of the plan.
    """

    def __init__(self, plan: SpikePlan, gradient: LayerGradient, verify: bool = False) -> None:
        self.plan, self.unwrapped = plan, plan.unwrapped
        self._verify = verify
        self.rules = [None if n.staircase is None else _rule_of(n, gradient) for n in plan.neurons]
        # by step, of which several calls may fire by one membrane
        self.membranes: list[dict[int, Tensor]] = [{} for _ in plan.neurons]
        self.spikes: list[list[tuple[int, Tensor]]] = [[] for _ in plan.neurons]
        self._exchanges: list[list[tuple[int, Any]]] = [[] for _ in plan.neurons]
        self._tops: list[dict[int, Node | None]] = [{} for _ in plan.neurons]
        self._rates: dict[int, RateSoFar] = {}
        self._firing = {known.function for known in plan.calls if known.neuron >= 0}
        self._expected = [known for known in plan.calls if known.function in self._firing]
        self._count = 0

    def call(self, call: Call) -> tuple[Any, Exchange | None]:
        if function_name(call.function) not in self._firing:
            return call.run(), None
        place, plan = self._count, self.plan
        self._count += 1
        known = self._expected[place] if place < len(self._expected) else None
        if known is None or known.function != function_name(call.function):
            raise InputError(
                f"call {place + 1} of a spike function is one of {function_name(call.function)}, "
                "and was another when the network was first run; its calls must not depend on the "
                "values of images or on random numbers"
            )
        if known.neuron < 0:
            return call.run(), None
        staircase, rule = plan.neurons[known.neuron].staircase, self.rules[known.neuron]
        if staircase is None or rule is None or not call.needs[staircase.argument]:
            return call.run(), None
        others = any(need for i, need in enumerate(call.needs) if i != staircase.argument)
        out = call.run() if others else call.repeat(*call.arguments)
        if self._verify and not staircase.agrees(staircase.membrane(call.arguments).detach(), out):
            raise Outdated
        if not others:
            call.ctx.set_materialize_grads(False)
        exchange = self._exchange(call, known, others, out)
        self._exchanges[known.neuron].append((known.step, exchange))
        self._tops[known.neuron].setdefault(known.step, call.arguments[staircase.argument].grad_fn)
        return out, exchange

    def _exchange(self, call: Call, planned: PlannedCall, others: bool, out: Tensor) -> Any:
        neuron, step = planned.neuron, planned.step
        rule, known = self.rules[neuron], self.plan.neurons[neuron]
        staircase, recurrence = known.staircase, known.recurrence
        assert staircase is not None
        membrane = call.arguments[staircase.argument]
        if isinstance(rule, Recursion | AdaptiveSurrogate):
            kept = self._kept(call, staircase, others)
            if isinstance(rule, Recursion):
                return Surrogated(staircase, rule, kept)
            self.membranes[neuron].setdefault(step, membrane.detach() if kept is None else kept)
            return Adapted(staircase, kept)
        assert isinstance(recurrence, Recurrence)
        if isinstance(rule, TimeAverage):
            self.membranes[neuron].setdefault(step, membrane)
            self.spikes[neuron].append((step, out))
            return Stopped(staircase.argument)
        assert isinstance(rule, RateSlope)
        if neuron not in self._rates:
            self._rates[neuron] = RateSoFar(rule, recurrence, staircase)
        if step not in self._tops[neuron]:
            self._rates[neuron].add(membrane.detach(), out)
        return Sloped(staircase.argument)

    def _kept(self, call: Call, staircase: Staircase, others: bool) -> Tensor | None:
        """A membrane for the backward pass; None where the context of the call saves it."""
        if others or self.plan.copies or staircase.threshold is not None:
            return staircase.membrane(call.arguments).detach().clone()
        call.ctx.save_for_backward(call.arguments[staircase.argument])
        return None

    def finish(self) -> None:
        """Ends the pass: works out what depends on all its steps.

        Raises:
            InputError: If the network made fewer calls than when it was first run.
        """
        if self._count != len(self._expected):
            raise InputError(
                f"the network called its spike functions {self._count} times, and "
                f"{len(self._expected)} times when it was first run; its number of steps must not "
                "depend on the values or the number of images, or on random numbers: give it a "
                "fixed one"
            )
        for place, rule in enumerate(self.rules):
            if not self._exchanges[place]:
                continue
            recurrence = self.plan.neurons[place].recurrence
            if isinstance(rule, AdaptiveSurrogate):
                rule = self._adapt(place, rule)
            if isinstance(rule, RateSlope):
                slope = self._rates[place].slope()
                for _, exchange in self._exchanges[place]:
                    exchange.slope = slope
            if isinstance(recurrence, Recurrence):
                self._cut(place, rule, recurrence)

    def _adapt(self, place: int, rule: AdaptiveSurrogate) -> Recursion:
        """Tells the steps of a neuron how sharp their surrogates are."""
        exchanges, membranes = self._exchanges[place], self.membranes[place]
        z = [nearest(exchanges[0][1].staircase, at)[0] for at in membranes.values()]
        images = self.plan.neurons[place].images
        if isinstance(images, ImageAxis):
            z = [images.first(at) for at in z]
        flat = z[0].dim() < 2
        recursion = rule.recursion([at.unsqueeze(-1) for at in z] if flat else z)
        sharpness = dict(zip(membranes, _by_step(recursion, len(z)), strict=True))
        for step, exchange in exchanges:
            exchange.rule = recursion
            sharp = sharpness[step].squeeze(-1) if flat else sharpness[step]
            if isinstance(images, ImageAxis):
                sharp = images.back(sharp.expand_as(z[0]), membranes[step])
            exchange.sharpness = sharp
        self.membranes[place] = {}
        return recursion

    def _cut(self, place: int, rule: Rule | None, recurrence: Recurrence) -> None:
        """Lets no gradient pass from a step to the one before, by the reset or by any way."""
        paths: Sequence[Any] = ()
        if isinstance(rule, RateSlope | TimeAverage):
            paths = recurrence.paths
        elif isinstance(rule, Recursion) and rule.detach_reset:
            paths = recurrence.resets or ()
        for top in [*self._tops[place].values()][1:]:
            if top is not None:
                cut(top, paths)


def _by_step(recursion: Recursion, steps: int) -> Sequence[Tensor]:
    assert recursion.sharpness is not None
    return recursion.sharpness.expand(steps, *recursion.sharpness.shape[1:]).unbind(0)


def _rule_of(neuron: SpikeNeuron, gradient: LayerGradient) -> Rule:
    """The rule of a mode for a neuron, whose statistics are its own."""
    known, statistics = neuron.recurrence, gradient.statistics
    dynamics = known.dynamics if isinstance(known, Recurrence) else Dynamics()
    if statistics is not None:
        statistics = statistics._replace(layer=neuron.name)
    return gradient.mode.rule(dynamics, statistics)
