"""The calls of a forward pass that make spikes, and which of them are the steps of one neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node

from robust_snn.foreign.comparisons import Fired, Rounded
from robust_snn.foreign.firing_chance import find_chance, own_random_numbers
from robust_snn.foreign.graph_walk import Walk, parents, walk
from robust_snn.foreign.spike_recording import Recorded
from robust_snn.foreign.staircase import LEVELS, Staircase, find_staircase, read_staircase


class Step(NamedTuple):
    """A call of a spike function, and how its membrane came about."""

    recorded: Recorded
    staircase: Staircase | None
    walk: Walk | None


def find_steps(
    calls: Sequence[Recorded], known: Sequence[Step | None] | None = None
) -> list[Step | None]:
    """The calls that make spikes of something that depends on the image; None for others.

    Args:
        calls: The calls of a forward pass.
        known: The steps of an earlier one, if their spikes are to be taken as they are.
    """
    found: dict[Any, Staircase] = {}
    steps: list[Step | None] = []
    between: set[Node] = set()  # calls that make no spikes, such as of a reset
    for place, recorded in enumerate(calls):
        if known is not None:
            before = known[place]
            fires, staircase = before is not None, before and before.staircase
        else:
            fires, staircase = _fires(recorded, found)
        if staircase is not None:
            top = recorded.tops[staircase.argument]
            way = None if top is None else walk(top, between)
            steps.append(Step(recorded, staircase, way))
        else:
            steps.append(Step(recorded, None, None) if fires else None)
            if not fires and _keeps_shape(recorded):
                between.add(recorded.node)
    return steps


def _fires(recorded: Recorded, found: dict[Any, Staircase]) -> tuple[bool, Staircase | None]:
    """Whether a call makes spikes, and by which staircase; `found` has those of other calls."""
    call, arguments, out = recorded.call, recorded.arguments, recorded.out
    if not any(call.needs) or not recorded.alive:
        return False, None
    if call.function is Rounded:
        return True, None
    if call.function is Fired:
        membrane, _, whole = arguments
        return True, read_staircase(membrane, out, whole=whole)
    key = (call.function, *(v for v in arguments if isinstance(v, int | float)))
    staircase, fires = found.get(key), False
    if staircase is None or not _suits(staircase, arguments, out):
        staircase = find_staircase(call.repeat, arguments, out)
        if staircase is None and (fires := _looks_like_spikes(recorded)):
            staircase = find_chance(call.repeat, arguments, out)
    if staircase is not None:
        found[key] = staircase
    return fires or staircase is not None, staircase


def walks_of(steps: Sequence[Step]) -> list[Walk]:
    """How the membranes of some steps came about."""
    return [step.walk for step in steps if step.walk is not None]


def _suits(staircase: Staircase, arguments: Sequence[Any], out: Tensor) -> bool:
    place = staircase.argument
    if place >= len(arguments) or not isinstance(arguments[place], Tensor):
        return False
    membrane = staircase.membrane(arguments)
    return membrane.shape == out.shape and staircase.agrees(membrane, out)


def _keeps_shape(recorded: Recorded) -> bool:
    """Whether a function may be one of each element alone."""
    if not isinstance(recorded.out, Tensor):
        return False
    tensors = [v for v in recorded.arguments if isinstance(v, Tensor) and v.numel() > 1]
    return all(value.shape == recorded.out.shape for value in tensors)


def _looks_like_spikes(recorded: Recorded) -> bool:
    """Whether a function without a staircase gives a few values only, for other inputs too.

    One whose input is spikes, such as a delay, makes none.
    """
    call, arguments, out = recorded.call, recorded.arguments, recorded.out
    if not isinstance(out, Tensor) or out.unique().numel() != 2:
        return False
    tensors = [v for v, need in zip(arguments, call.needs, strict=False) if need]
    if any(isinstance(v, Tensor) and v.unique().numel() == 2 for v in tensors):
        return False
    moved = [
        v.detach() * 0.93 + 0.037 if isinstance(v, Tensor) and v.is_floating_point() else v
        for v in arguments
    ]
    try:
        with torch.no_grad(), own_random_numbers(out.device):
            other = call.repeat(*moved)
    except Exception:  # whatever somebody's function does not take
        return True
    return isinstance(other, Tensor) and other.unique().numel() < LEVELS


def neurons_of(steps: Sequence[Step | None]) -> list[list[list[int]]]:
    """The neurons of a pass: for every one its time steps, for every step the places of its calls.

    The graph says which membrane is made of which. Where it does not, because a state is detached,
    calls of one line after one module belong together.
    """
    before, same = _links(steps)
    followed = set(before.values())
    neurons: list[list[list[int]]] = []
    neuron_of: dict[int, list[list[int]]] = {}
    by_line: dict[Any, list[list[list[int]]]] = {}
    for place, step in enumerate(steps):
        if step is None:
            continue
        if place in same:
            neuron = neuron_of[same[place]]
            next(calls for calls in neuron if same[place] in calls).append(place)
            neuron_of[place] = neuron
            continue
        line = (step.recorded.path, step.recorded.where, step.recorded.out.shape)
        earlier = neuron_of.get(before[place]) if place in before else None
        if earlier is not None and earlier[-1][0] != before[place]:
            last = steps[earlier[-1][0]]  # it follows this call, which the graph may not show
            if last is None or last.recorded.where != step.recorded.where:
                earlier = None
        if place not in before:
            ended = (n for n in by_line.get(line, ()) if n[-1][0] not in followed)
            earlier = next(ended, None)
        if earlier is None:
            earlier = []
            neurons.append(earlier)
        if place not in before and not any(n is earlier for n in by_line.get(line, ())):
            by_line.setdefault(line, []).append(earlier)
        earlier.append([place])
        neuron_of[place] = earlier
    return neurons


def _links(steps: Sequence[Step | None]) -> tuple[dict[int, int], dict[int, int]]:
    """The calls of the step before, and earlier calls with the same membrane, by place."""
    before: dict[int, int] = {}
    same: dict[int, int] = {}
    tops: dict[Node, int] = {}
    inner: dict[Node, int] = {}
    ends: dict[Node, int] = {}
    for place, step in enumerate(steps):
        if step is None or step.walk is None:
            continue
        twice = tops.setdefault(step.walk.top, place)
        other = twice if twice != place else _before(step, steps, inner, ends)
        if other is not None and _same_membrane(step, steps[other]):
            same[place] = same.get(other, other)
        elif other is not None:
            before[place] = same.get(other, other)
        inner |= {node: place for node in step.walk.chain if node in step.walk.inner}
        ends[step.walk.chain[-1]] = place
    return before, same


def _before(
    step: Step,
    steps: Sequence[Step | None],
    inner: Mapping[Node, int],
    ends: Mapping[Node, int],
) -> int | None:
    """The call of the step before, whose membrane this one's is made of."""
    assert step.walk is not None
    reached = {parent for node in step.walk.inner for parent in parents(node)}
    for known, nodes in ((inner, step.walk.inner - {step.walk.top}), (ends, reached)):
        places = sorted((known[node] for node in nodes if node in known), reverse=True)
        for candidate in places:
            other = steps[candidate]
            if other is not None and _alike(step.recorded, other.recorded):
                return candidate
    return None


def _alike(a: Recorded, b: Recorded) -> bool:
    return (a.path, a.call.function, a.out.shape) == (b.path, b.call.function, b.out.shape)


def _same_membrane(step: Step, other: Step | None) -> bool:
    """Whether two calls fire by one membrane, as where a reset calls the spike function again."""
    if other is None or not _alike(step.recorded, other.recorded):
        return False
    if step.walk is None or other.walk is None or step.staircase is None:
        return False
    if not set(step.walk.chain) & set(other.walk.chain):
        return False
    pair = [step.staircase.membrane(s.recorded.arguments) for s in (step, other)]
    return torch.equal(*pair)
