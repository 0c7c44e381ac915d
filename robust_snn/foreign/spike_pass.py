"""A forward pass of somebody's network whose spike functions have another backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.graph_walk import cut
from robust_snn.foreign.interception import Call, Exchange
from robust_snn.foreign.recurrence import Recurrence
from robust_snn.foreign.spike_plan import SpikeNeuron, SpikePlan, function_name
from robust_snn.foreign.staircase import Staircase
from robust_snn.kernels import RateSlope, Recursion, Rule, TimeAverage
from robust_snn.kernels.spiking.adaptive_surrogates import AdaptiveSurrogate
from robust_snn.kernels.spiking.reference import rate_slope
from robust_snn.kernels.spiking.surrogate_shapes import derivative
from robust_snn.utils.errors import InputError

RuleOf = Callable[[SpikeNeuron], Rule]


class _Surrogated(Exchange):
    """The step function with a surrogate derivative."""

    def __init__(self, staircase: Staircase, rule: Recursion, kept: Tensor | None) -> None:
        self.argument = staircase.argument
        self.staircase = staircase
        self.rule = rule
        self.kept = kept

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        membrane = ctx.saved_tensors[0] if self.kept is None else self.kept
        surrogate = self.rule.surrogate
        total: Tensor | float = 0.0
        for edge, jump in zip(self.staircase.edges, self.staircase.jumps, strict=True):
            z = membrane if edge == 0 else membrane - edge
            slope = derivative(z, surrogate, surrogate.sharpness)
            total = total + (slope if jump == 1 else jump * slope)
        return (upstream * total).to(upstream.dtype)


class _Adapted(Exchange):
    """The surrogate of a rule that measures the membranes of all steps first."""

    def __init__(self, staircase: Staircase, membrane: Tensor) -> None:
        self.argument = staircase.argument
        self.z, self.jump = _nearest(staircase, membrane)
        self.rule: Recursion | None = None
        self.sharpness: Tensor | float = 1.0

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        assert self.rule is not None
        slope = derivative(self.z, self.rule.surrogate, self.sharpness)
        return (upstream * slope * self.jump).to(upstream.dtype)


class _Sloped(Exchange):
    """A slope per neuron, known once the pass has ended."""

    def __init__(self, argument: int) -> None:
        self.argument = argument
        self.slope: Tensor | None = None

    def backward(self, ctx: Any, upstream: Tensor) -> Tensor:
        assert self.slope is not None
        return (upstream * self.slope).to(upstream.dtype)


class _Stopped(Exchange):
    """No gradient: `average_over_time` goes on from here."""

    def __init__(self, argument: int) -> None:
        self.argument = argument

    def backward(self, ctx: Any, upstream: Tensor) -> None:
        return None


class SpikePass:
    """Listens to a forward pass and gives its spike functions the backward pass of a rule.

    Args:
        plan: The calls to expect.
        rule_of: The rule of a neuron.
    """

    def __init__(self, plan: SpikePlan, rule_of: RuleOf) -> None:
        self.plan = plan
        self.rules = [None if n.staircase is None else rule_of(n) for n in plan.neurons]
        self.membranes: list[list[Tensor]] = [[] for _ in plan.neurons]
        self.spikes: list[list[Tensor]] = [[] for _ in plan.neurons]
        self._exchanges: list[list[Any]] = [[] for _ in plan.neurons]
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
                "values of images"
            )
        if known.neuron < 0:
            return call.run(), None
        staircase, rule = plan.neurons[known.neuron].staircase, self.rules[known.neuron]
        if staircase is None or rule is None or not call.needs[staircase.argument]:
            return call.run(), None
        others = any(need for i, need in enumerate(call.needs) if i != staircase.argument)
        out = call.run() if others else call.repeat(*call.arguments)
        exchange = self._exchange(call, staircase, rule, others)
        self._exchanges[known.neuron].append(exchange)
        if isinstance(rule, RateSlope | TimeAverage) or _detaches(rule, plan.neurons[known.neuron]):
            self.membranes[known.neuron].append(call.arguments[staircase.argument])
            self.spikes[known.neuron].append(out)
        return out, exchange

    def _exchange(self, call: Call, staircase: Staircase, rule: Rule, others: bool) -> Any:
        if isinstance(rule, Recursion):
            bare = not (others or self.plan.copies) and staircase.threshold is None
            if bare:
                call.ctx.save_for_backward(call.arguments[staircase.argument])
            kept = None if bare else staircase.membrane(call.arguments).detach().clone()
            return _Surrogated(staircase, rule, kept)
        if isinstance(rule, AdaptiveSurrogate):
            return _Adapted(staircase, staircase.membrane(call.arguments).detach())
        if isinstance(rule, RateSlope):
            return _Sloped(staircase.argument)
        assert isinstance(rule, TimeAverage)
        return _Stopped(staircase.argument)

    def finish(self) -> None:
        """Ends the pass: works out what depends on all its steps.

        Raises:
            InputError: If the network made fewer calls than when it was first run.
        """
        if self._count != len(self._expected):
            raise InputError(
                f"the network called its spike functions {self._count} times, and "
                f"{len(self._expected)} times when it was first run"
            )
        for place, rule in enumerate(self.rules):
            exchanges = self._exchanges[place]
            if isinstance(rule, AdaptiveSurrogate) and exchanges:
                z = torch.stack([e.z for e in exchanges])
                recursion = rule.recursion(z if z.dim() > 2 else z.unsqueeze(-1))
                for exchange, sharpness in zip(
                    exchanges, _by_step(recursion, len(z), z.dim()), strict=True
                ):
                    exchange.rule, exchange.sharpness = recursion, sharpness
                rule = recursion
            if isinstance(rule, Recursion) and exchanges:
                self._detach_reset(place, rule)
            if isinstance(rule, RateSlope | TimeAverage) and exchanges:
                self._finish_rate(place, rule)

    def _detach_reset(self, place: int, rule: Recursion) -> None:
        recurrence = self.plan.neurons[place].recurrence
        if rule.detach_reset and isinstance(recurrence, Recurrence) and recurrence.resets:
            for membrane in self.membranes[place][1:]:
                cut(membrane, recurrence.resets)
        self.membranes[place], self.spikes[place] = [], []

    def _finish_rate(self, place: int, rule: RateSlope | TimeAverage) -> None:
        neuron = self.plan.neurons[place]
        recurrence, staircase = neuron.recurrence, neuron.staircase
        assert isinstance(recurrence, Recurrence) and staircase is not None
        membranes = self.membranes[place]
        for membrane in membranes[1:]:
            cut(membrane, recurrence.paths)
        if isinstance(rule, TimeAverage):
            return
        jump = staircase.jumps[0]
        with torch.no_grad():
            fired = [(spikes - staircase.levels[0]) / jump for spikes in self.spikes[place]]
            z = [m.detach() - staircase.edges[0] for m in membranes] if rule.edges else []
            slope = jump * rate_slope_of(rule, recurrence, z, fired)
        for exchange in self._exchanges[place]:
            exchange.slope = slope
        self.membranes[place], self.spikes[place] = [], []


def rate_slope_of(
    rule: RateSlope, recurrence: Recurrence, z: Sequence[Tensor], spikes: Sequence[Tensor]
) -> Tensor:
    """Slope of the rate of a neuron, `[B, ...]`, from its spikes of every step.

    Where the slope depends on the mean drive, that follows from the membranes `z` of every step.
    """
    fired = torch.stack(list(spikes))
    if rule.edges is None:  # no drive is needed but for its type
        return rate_slope(rule, fired, fired)
    carried = [torch.full_like(z[0], -recurrence.threshold)]
    carried += [recurrence.carried(a, s) for a, s in zip(z[:-1], spikes[:-1], strict=True)]
    drive = torch.stack([after - before for after, before in zip(z, carried, strict=True)])
    return rate_slope(rule, fired, drive)


def _detaches(rule: Rule, neuron: SpikeNeuron) -> bool:
    """Whether a rule may cut the gradient of the reset."""
    known = isinstance(neuron.recurrence, Recurrence)
    return known and (isinstance(rule, AdaptiveSurrogate) or getattr(rule, "detach_reset", False))


def _by_step(recursion: Recursion, steps: int, dims: int) -> Sequence[Tensor]:
    assert recursion.sharpness is not None
    sharpness = recursion.sharpness.expand(steps, *recursion.sharpness.shape[1:])
    return (sharpness if dims > 2 else sharpness.squeeze(-1)).unbind(0)


def _nearest(staircase: Staircase, membrane: Tensor) -> tuple[Tensor, Tensor | float]:
    """Distance from the nearest edge, and the jump there."""
    if len(staircase.edges) == 1:
        return membrane - staircase.edges[0], staircase.jumps[0]
    edges, jumps = (membrane.new_tensor(v) for v in (staircase.edges, staircase.jumps))
    nearest = (membrane.unsqueeze(-1) - edges).abs().argmin(-1)
    return membrane - edges[nearest], jumps[nearest]


def averaged_over_time(x: Tensor, run: Callable[[Tensor], tuple[Tensor, SpikePass]]) -> Tensor:
    """Logits `[B, K]` of a pass whose rules average over time (HART).

    Args:
        x: Images with a gradient.
        run: A forward pass, from images to logits and the spike pass that listened.
    """
    logits: Tensor = _Averaged.apply(x, run)
    return logits


class _Averaged(torch.autograd.Function):
    """A forward pass whose backward pass goes layer by layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], tuple[Tensor, SpikePass]]) -> Tensor:
        with torch.enable_grad():
            image = x.detach().requires_grad_()
            logits, spike_pass = run(image)
        ctx.kept = image, logits, spike_pass
        return logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        image, logits, spike_pass = ctx.kept
        return average_over_time(spike_pass, image, logits, upstream[0]), None


def average_over_time(
    spike_pass: SpikePass, image: Tensor, logits: Tensor, upstream: Tensor
) -> Tensor:
    """Gradient of the image under a rule that averages over time (HART), layer by layer.

    The gradient that a layer sends down is the same at every step, so all of its steps have to be
    known first: neurons are taken one by one, from the last to the first.

    Args:
        spike_pass: The pass, whose spike functions stop every gradient.
        image: The image, a leaf of its graph.
        logits: `[B, K]`.
        upstream: Gradient of the logits.

    Raises:
        InputError: If a neuron has an effect on one before it, or on itself by a connection.
    """
    total = torch.zeros_like(image)
    collected: dict[tuple[int, int], Tensor] = {}
    neurons = [n for n, rule in enumerate(spike_pass.rules) if isinstance(rule, TimeAverage)]
    outputs = {(n, t): s for n in neurons for t, s in enumerate(spike_pass.spikes[n])}

    def send(values: Sequence[Tensor], gradients: Sequence[Tensor], done: int) -> None:
        nonlocal total
        got = torch.autograd.grad(
            values, [image, *outputs.values()], gradients, retain_graph=True, allow_unused=True
        )
        total = total if got[0] is None else total + got[0]
        for (neuron, step), gradient in zip(outputs, got[1:], strict=True):
            if gradient is None:
                continue
            if neuron >= done:
                if bool(gradient.any()):
                    name = spike_pass.plan.neurons[neuron].name
                    raise InputError(f"spikes of {name} act on it or on neurons before it")
                continue
            known = collected.get((neuron, step))
            collected[neuron, step] = gradient if known is None else known + gradient

    send([logits], [upstream], len(spike_pass.rules))
    for neuron in reversed(neurons):
        membranes, rule = spike_pass.membranes[neuron], spike_pass.rules[neuron]
        staircase = spike_pass.plan.neurons[neuron].staircase
        assert isinstance(rule, TimeAverage) and staircase is not None
        mean = torch.zeros_like(membranes[0])
        for step, membrane in enumerate(membranes):
            if (gradient := collected.get((neuron, step))) is not None:
                z = membrane.detach() - staircase.edges[0]
                slope = derivative(z, rule.surrogate, rule.surrogate.sharpness)
                mean = mean + staircase.jumps[0] * slope * gradient
        mean = mean / len(membranes)
        send(membranes, [mean] * len(membranes), neuron)
    return total
