"""The calls of a forward pass that make spikes, and which of them are the steps of one neuron."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node

from robust_snn.foreign.exchanged_spikes import Fired, Rounded, read_spikes
from robust_snn.foreign.firing_chance import find_chance, own_random_numbers
from robust_snn.foreign.graph_walk import Walk, parents, walk
from robust_snn.foreign.spike_recording import Recorded
from robust_snn.foreign.staircase import LEVELS, Staircase, find_staircase, has_jump

Neuron = list[list[int]]  # for every time step of a neuron the places of its calls in the pass


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
    calls = [*map(_firing, calls)]
    if known is not None:
        firing = [(step is not None, step and step.staircase) for step in known]
    else:
        firing = _all_that_fire(calls, [_fires(recorded, found) for recorded in calls])
    for recorded, (fires, staircase) in zip(calls, firing, strict=True):
        if staircase is not None:
            top = recorded.tops[staircase.argument]
            way = None if top is None else walk(top, between)
            steps.append(Step(recorded, staircase, way))
        else:
            steps.append(Step(recorded, None, None) if fires else None)
            if not fires and _keeps_shape(recorded):
                between.add(recorded.node)
    return steps


Firing = tuple[bool, Staircase | None]  # whether a call makes spikes, and by which staircase


def _all_that_fire(calls: Sequence[Recorded], firing: Sequence[Firing]) -> list[Firing]:
    """What fires, with calls whose own values do not show a jump that others of a function do."""
    jump = {
        c.call.function
        for c, (fires, staircase) in zip(calls, firing, strict=True)
        if fires and not staircase
    }
    return [
        (fires or (c.call.function in jump and _matters(c)), staircase)
        for c, (fires, staircase) in zip(calls, firing, strict=True)
    ]


def _fires(recorded: Recorded, found: dict[Any, Staircase]) -> Firing:
    """Whether a call makes spikes, and by which staircase; `found` has those of other calls."""
    call, arguments, out = recorded.call, recorded.arguments, recorded.out
    if not _matters(recorded):
        return False, None
    if call.function is Rounded:
        return True, None
    if call.function is Fired:
        membrane, _, kind, _ = arguments
        return True, read_spikes(membrane, out, kind)
    if recorded.writes:  # it cannot be called again
        return _takes_few_levels(out), None
    if recorded.number is not None:  # whose other outputs a surrogate would have to reach too
        return _takes_few_levels(out) or has_jump(recorded.repeat, arguments, out), None
    key = (call.function, *(v for v in arguments if isinstance(v, int | float)))
    staircase, fires = found.get(key), False
    if staircase is None or not _suits(staircase, arguments, out):
        staircase = find_staircase(call.repeat, arguments, out)
        if staircase is None and (fires := _looks_like_spikes(recorded)):
            staircase = find_chance(call.repeat, arguments, out)
        if staircase is None and not fires:
            fires = has_jump(call.repeat, arguments, out)
    if staircase is not None:
        found[key] = staircase
    return fires or staircase is not None, staircase


def _matters(recorded: Recorded) -> bool:
    """Whether a call makes a tensor that has to do with images and logits."""
    return any(recorded.call.needs) and recorded.alive and isinstance(recorded.out, Tensor)


def _firing(recorded: Recorded) -> Recorded:
    """A call that gives several tensors with the one that seems to be spikes in their place."""
    if not isinstance(recorded.out, tuple | list):
        return recorded
    slopes = [place for place, out in enumerate(recorded.out) if _is_float(out)]
    spikes = [place for place in slopes if _takes_few_levels(recorded.out[place])]
    number = next(iter(spikes or slopes), None)
    out = None if number is None else recorded.out[number].detach()
    return recorded._replace(out=out, number=number)


def walks_of(steps: Sequence[Step]) -> list[Walk]:
    """How the membranes of some steps came about."""
    return [step.walk for step in steps if step.walk is not None]


def common_staircase(members: Sequence[Step]) -> Staircase | None:
    """The staircase by which all steps of a neuron fire; None if there is none.

    A single step may leave open whether a threshold that moves is one of the arguments.
    """
    known = dict.fromkeys(step.staircase for step in members)
    if len(known) == 1:
        return members[0].staircase
    for staircase in known:
        if staircase is not None and all(
            _suits(staircase, step.recorded.arguments, step.recorded.out) for step in members
        ):
            return staircase
    return _moving_staircase(members)


def _moving_staircase(members: Sequence[Step]) -> Staircase | None:
    """The staircase of a neuron whose threshold is an argument, and a number at every step."""
    first = members[0]
    staircase, arguments = first.staircase, first.recorded.arguments
    if staircase is None or staircase.threshold is not None or staircase.chance:
        return None
    for place, value in enumerate(arguments):
        if type(value) is not float:
            continue
        edges = tuple(edge - value for edge in staircase.edges)
        moving = staircase._replace(threshold=place, edges=edges)
        if all(_suits(moving, s.recorded.arguments, s.recorded.out) for s in members):
            return moving
    return None


def _is_float(out: Any) -> bool:
    return isinstance(out, Tensor) and out.is_floating_point()


def _takes_few_levels(out: Any) -> bool:
    return isinstance(out, Tensor) and 1 < out.unique().numel() <= LEVELS


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


def neurons_of(steps: Sequence[Step | None], whole: bool = False) -> list[Neuron]:
    """The neurons of a pass.

    The graph says which membrane is made of which. Where it does not, because a state is detached,
    calls of one line after one module belong together.

    Args:
        steps: The calls.
        whole: Whether the graph shows all states. Then calls that follow one another in it belong
            to no others.
    """
    before, weak, same = _links(steps)
    before |= weak
    followed = set(before.values())
    where = [step and step.recorded.where for step in steps]
    neurons: list[Neuron] = []
    neuron_of: dict[int, Neuron] = {}
    begun_at = defaultdict[Any, list[Neuron]](list)  # by line: those whose first call follows none
    for place, step in enumerate(steps):
        if step is None:
            continue
        if place in same:
            neuron_of[place] = neuron_of[same[place]]
            next(calls for calls in neuron_of[place] if same[place] in calls).append(place)
            continue
        begun = begun_at[step.recorded.path, step.recorded.where, step.recorded.out.shape]
        neuron: Neuron | None
        if place in before:
            neuron = neuron_of[before[place]]
            last = neuron[-1][0]  # which this call may follow, too, unseen by the graph
            if last != before[place] and where[last] != where[place]:
                neuron = None
        else:
            ended = (n for n in begun if n[-1][0] not in followed)
            alone = place not in followed
            joined = (n for n in ended if not whole or (alone and not _is_chain(n, before)))
            neuron = next(joined, None)
        if neuron is None:
            neuron = []
            neurons.append(neuron)
            if place not in before:
                begun.append(neuron)
        neuron.append([place])
        neuron_of[place] = neuron
    return neurons


def _is_chain(neuron: Neuron, before: Mapping[int, int]) -> bool:
    """Whether the graph shows the last step of a neuron after the one before it."""
    last = neuron[-1][0]
    return last in before and (len(neuron) < 2 or before[last] in neuron[-2])


def has_hidden_links(
    steps: Sequence[Step | None], groups: Sequence[Sequence[Sequence[int]]]
) -> bool:
    """Whether the graph shows less of which call follows which than `neurons_of` says."""
    before, weak, same = _links(steps)
    first = [place for place, step in enumerate(steps) if step and place not in before | same]
    twice = len(set(before.values())) < len(before)
    return bool(weak) or twice or len(first) > len(groups)


class _Links(NamedTuple):
    """How calls follow each other, by place.

    Attributes:
        before: The calls of the step before.
        weak: Those that may as well be of another neuron, where no others are known.
        same: Earlier calls with the same membrane.
    """

    before: dict[int, int]
    weak: dict[int, int]
    same: dict[int, int]


def _links(steps: Sequence[Step | None]) -> _Links:
    before: dict[int, int] = {}
    same: dict[int, int] = {}
    weak: dict[int, int] = {}
    inner: dict[Node, list[int]] = {}
    ends: dict[Node, list[int]] = {}  # of several calls where an operation splits a tensor
    ranks: dict[int, int] = {}  # of calls by one membrane in a step
    known_at = inner, ends
    for place, step in enumerate(steps):
        if step is None or step.walk is None:
            continue
        near = {p for known in known_at for node in step.walk.chain for p in known.get(node, ())}
        again = next((p for p in sorted(near) if _same_membrane(step, steps[p])), None)
        if again is not None:
            same[place], ranks[place] = same.get(again, again), ranks[again]
        else:
            # as of the second of `fire(v - 1) - fire(-v - 1)`, whose step before is a second one
            ranks[place] = sum(_shifted(step, steps[p]) for p in near - same.keys())
            other, sure = _before(step, place, steps, ranks, known_at)
            if other is not None:
                (before if sure else weak)[place] = same.get(other, other)
        for node in step.walk.chain:
            if node in step.walk.inner:
                inner.setdefault(node, []).append(place)
        ends.setdefault(step.walk.chain[-1], []).append(place)
    followed = {*before.values(), *before}
    return _Links(before, {p: o for p, o in weak.items() if not {p, o} & followed}, same)


def _before(
    step: Step,
    own: int,
    steps: Sequence[Step | None],
    ranks: Mapping[int, int],
    known_at: tuple[Mapping[Node, list[int]], Mapping[Node, list[int]]],
) -> tuple[int | None, bool]:
    """The call of the step before, whose membrane this one's is made of, and whether that is sure.

    It is not where nothing else enters: it may be the first step of another neuron with that input.
    """
    assert step.walk is not None
    reached = {parent for node in step.walk.inner for parent in parents(node)}
    joins = step.walk.chain[-1] in step.walk.inner
    for known, nodes in zip(known_at, (step.walk.inner - {step.walk.top}, reached), strict=True):
        places = {place for node in nodes for place in known.get(node, ())}
        found = [
            (place, other)
            for place in places
            if (other := steps[place]) and _alike(step.recorded, other.recorded)
            if not _beside(step, other)
        ]
        if found:  # the last, and before others one whose spikes act on the membrane
            line = _compared_in(step.recorded)
            alike, acts, _, place = max(
                (
                    ranks[place] == ranks[own] and not _shifted(step, other),
                    other.recorded.node in reached,
                    _compared_in(other.recorded) == line,
                    place,
                )
                for place, other in found
            )
            return place, alike and (joins or acts)
    return None, False


@torch.no_grad()
def _shifted(step: Step, other: Step | None) -> bool:
    """Whether two calls fire by one membrane, or by it and its negative, at other thresholds.

    Where nothing else follows the two, they may also be two steps of a threshold that moves.
    """
    if other is None or not _alike(step.recorded, other.recorded):
        return False
    if step.walk is None or other.walk is None or not (step.staircase and other.staircase):
        return False
    if not {*step.walk.chain} & {*other.walk.chain}:
        return False
    one, two = (
        s.staircase.membrane(s.recorded.arguments) - s.staircase.edges[0]
        for s in (step, other)
        if s.staircase
    )
    slack = 1e-5 * (1 + float(one.abs().max()))
    if _spread(one) <= slack:
        return False
    return _spread(one + two) <= slack or (
        _spread(one - two) <= slack < float((one - two).abs().max())
    )


def _spread(values: Tensor) -> float:
    return float(values.max() - values.min())


def _alike(a: Recorded, b: Recorded) -> bool:
    return (a.path, a.call.function, a.out.shape) == (b.path, b.call.function, b.out.shape)


def _compared_in(recorded: Recorded) -> Any:
    """The line of a comparison, of which several may meet in the line that makes spikes of them."""
    return recorded.arguments[-1] if recorded.call.function is Fired else None


def _beside(step: Step, other: Step) -> bool:
    """Whether two comparisons of one membrane in one step make spikes of two kinds."""
    if _compared_in(step.recorded) == _compared_in(other.recorded):
        return False
    assert step.walk is not None
    shared = other.walk is not None and bool({*step.walk.chain} & {*other.walk.chain})
    return shared and not _same_membrane(step, other)


def _same_membrane(step: Step, other: Step | None) -> bool:
    """Whether two calls fire by one membrane, as where a reset calls the spike function again."""
    if other is None or not _alike(step.recorded, other.recorded):
        return False
    if step.walk is None or other.walk is None or step.staircase is None:
        return False
    if not set(step.walk.chain) & set(other.walk.chain) or step.staircase != other.staircase:
        return False
    pair = [step.staircase.membrane(s.recorded.arguments) for s in (step, other)]
    return torch.equal(*pair)
