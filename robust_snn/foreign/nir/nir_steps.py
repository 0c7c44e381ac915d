"""Neurons that run step by step: alone, or with all others on their loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robust_snn.foreign.nir.nir_layers import Shape
from robust_snn.foreign.nir.nir_neurons import Firing, Integrator, SteppedNeuron
from robust_snn.foreign.nir.nir_order import Group
from robust_snn.kernels import Activate, Dynamics, RateSlope, Recursion, Rule, TimeAverage
from robust_snn.kernels.spiking.reference import differentiable_spikes, reference_activation
from robust_snn.kernels.spiking.rules import TRIANGLE_RECURSION
from robust_snn.kernels.spiking.spec import LayerInputs
from robust_snn.utils.errors import InputError

RATE_RULES = (RateSlope, TimeAverage, Activate)


class Part(NamedTuple):
    """What a group needs to run.

    Attributes:
        group: Its nodes in order, and its late edges.
        modules: Their modules.
        shapes: The shapes of their outputs for one sample.
        edges: The edges between them.
    """

    group: Group
    modules: Mapping[str, nn.Module]
    shapes: Mapping[str, Shape]
    edges: list[tuple[str, str]]

    def neurons(self) -> dict[str, SteppedNeuron]:
        return {n: m for n, m in self.modules.items() if isinstance(m, SteppedNeuron)}


def missing_rule(rule: Rule, neuron: SteppedNeuron, loop: bool) -> str | None:
    """Why a neuron has no gradient by the rule; None where it has one."""
    if not isinstance(rule, RATE_RULES):
        return None
    if loop:
        return "its spikes reach it again, which a gradient of rates knows nothing of"
    return "it fires several times in one step, as no rate does" if neuron.levels else None


def run_steps(part: Part, inputs: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
    """The outputs `[T, B, ...]` of the nodes of a group.

    Args:
        part: The group.
        inputs: What comes from outside, by node, `[T, B, ...]` or `[1, B, ...]`.
        steps: Number of time steps `T`.

    Raises:
        InputError: If a gradient mode has no rule for one of the neurons.
    """
    inputs = {name: x.expand(steps, *x.shape[1:]) for name, x in inputs.items()}
    rules = {name: neuron.rule() for name, neuron in part.neurons().items()}
    for name, rule in rules.items():
        reason = missing_rule(rule, part.neurons()[name], part.group.loop)
        if reason is not None:
            raise InputError(f"node '{name}' has no gradient under this mode: {reason}")
        if isinstance(rule, RATE_RULES):
            return {name: _by_rate(part, name, rule, inputs[name])}
    firings = _firings(part, rules, inputs)
    return {name: torch.stack(x) for name, x in _run(part, inputs, firings)[0].items()}


def _by_rate(
    part: Part, name: str, rule: RateSlope | TimeAverage | Activate, current: Tensor
) -> Tensor:
    """A single layer of neurons whose gradient has no recursion."""
    neuron = part.neurons()[name]
    drive = neuron.gain * current
    if isinstance(rule, Activate):
        threshold: Any = neuron.threshold
        inputs = LayerInputs(len(drive))
        return reference_activation(drive, Dynamics(threshold=threshold), rule, inputs)
    with torch.no_grad():
        firings = {name: Firing.of(TRIANGLE_RECURSION)}
        spikes, distances = _run(part, {name: current}, firings)
    return differentiable_spikes(
        rule, torch.stack(spikes[name]), torch.stack(distances[name]), drive
    )


def _firings(
    part: Part, rules: Mapping[str, Rule], inputs: Mapping[str, Tensor]
) -> dict[str, Firing]:
    """Each neuron's surrogate; one that adapts takes a first pass to see the membranes."""
    plain = {name: rule for name, rule in rules.items() if isinstance(rule, Recursion)}
    firings = {name: Firing.of(plain.get(name, TRIANGLE_RECURSION)) for name in rules}
    adaptive: dict[str, Any] = {name: rules[name] for name in rules if name not in plain}
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs.values())
    if adaptive and wanted:
        with torch.no_grad():
            distances = _run(part, inputs, firings)[1]
        for name, rule in adaptive.items():
            firings[name] = Firing.of(rule.recursion(torch.stack(distances[name])))
    return firings


Traces = dict[str, list[Tensor]]


def _run(
    part: Part, inputs: Mapping[str, Tensor], firings: Mapping[str, Firing]
) -> tuple[Traces, Traces]:
    """Outputs of all nodes and distances to the threshold of all neurons, step by step."""
    like = next(iter(inputs.values()))
    outputs: Traces = {name: [] for name in part.group.nodes}
    distances: Traces = {name: [] for name in firings}
    stateful = (Integrator, SteppedNeuron)
    states = {
        name: module.start((like.shape[1], *part.shapes[name]), like)
        for name, module in part.modules.items()
        if isinstance(module, stateful)
    }
    external = {name: x.unbind(0) for name, x in inputs.items()}
    sharpness = {name: iter(firing.per_step()) for name, firing in firings.items()}
    for t in range(len(like)):
        for name in part.group.nodes:
            module = part.modules[name]
            terms = [external[name][t]] if name in external else []
            for edge in part.edges:
                if edge[1] == name:
                    source = outputs[edge[0]]
                    if edge not in part.group.late:
                        terms.append(source[t])
                    else:  # nothing has fired before the first step
                        terms.append(source[t - 1] if t else torch.zeros_like(states[edge[0]][0]))
            current = sum(terms[1:], terms[0])
            if isinstance(module, SteppedNeuron):
                sharp = next(sharpness[name])
                fired, z, states[name] = module.step(current, states[name], firings[name], sharp)
                outputs[name].append(fired)
                distances[name].append(z)
            elif isinstance(module, Integrator):
                membrane, states[name] = module.step(current, states[name])
                outputs[name].append(membrane)
            else:
                outputs[name].append(module(current))
    return outputs, distances
