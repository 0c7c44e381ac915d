"""Running a network once to find where and how its neurons fire."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.comparisons import Comparisons, Fired, watching, with_gradient
from robust_snn.foreign.graph_walk import Walk, drives, follow, recurrent_paths, reset_paths, walk
from robust_snn.foreign.interception import Call, functions_of, listening, nodes_of, open_function
from robust_snn.foreign.recurrence import SILENT, Recurrence, Unrecognised, fit
from robust_snn.foreign.spike_plan import (
    COMPARISON,
    PlannedCall,
    SpikeNeuron,
    SpikePlan,
    function_name,
)
from robust_snn.foreign.staircase import LEVELS, Staircase, find_staircase

Run = Callable[[Tensor], Sequence[Tensor]]  # images to the tensors that a network returns


def survey(net: nn.Module, run: Run, images: Tensor) -> SpikePlan:
    """Finds the spike functions of a network.

    Args:
        net: The network.
        run: A forward pass of it as its author means it, from rest, `inside_network`.
        images: A few images, which some neurons should fire at.
    """
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        for function in functions_of(run(leaf)):
            open_function(function)
        looking, heard = Comparisons(), _Recorder(net)
        with listening(heard), watching(looking):
            run(leaf)
        others = [s for s in _spikes(heard.calls) if s and s.recorded.call.function is not Fired]
        places = with_gradient(looking.places())
        if not places and not others:
            places = looking.places()
        if places:
            open_function(Fired)
        recorder, tape = _Recorder(net), _Tape()
        with recorder.following(), listening(recorder), watching(tape, Comparisons(places)):
            outputs = run(leaf)
        alive = nodes_of(outputs)
        calls = [c._replace(alive=getattr(c.out, "grad_fn", None) in alive) for c in recorder.calls]
        return _plan(net, calls, tape, places)


class _Recorded(NamedTuple):
    """A call of a custom autograd function."""

    call: Call
    out: Any
    path: str
    where: tuple[Any, ...]
    alive: bool = True  # whether the output of the network depends on it


class _Recorder:
    """Listens to a forward pass and changes nothing."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.calls: list[_Recorded] = []
        self._stack: list[str] = [""]

    def call(self, call: Call) -> tuple[Any, None]:
        out = call.run()
        self.calls.append(_Recorded(call, out, self._stack[-1], _where()))
        return out, None

    @contextmanager
    def following(self) -> Iterator[None]:
        """Knows, inside, which module is running."""

        def enter(name: str) -> Callable[..., None]:
            def push(*_: Any) -> None:
                caller = self._stack[-1]
                # what several neurons share, such as a surrogate, is a part of its caller
                shared = caller and not name.startswith(f"{caller}.")
                self._stack.append(caller if shared else name)

            return push

        def leave(*_: Any) -> None:
            self._stack.pop()

        hooks = []
        for name, module in self.net.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                hooks.append(module.register_forward_pre_hook(enter(name)))
                hooks.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _where() -> tuple[Any, ...]:
    """The lines of code that are running, which tell the calls of a loop from others."""
    frame: FrameType | None = sys._getframe(1)
    lines = []
    while frame is not None and frame.f_code is not survey.__code__:
        lines.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(lines)


class _Tape(TorchFunctionMode):
    """Keeps the values of every tensor that has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[Node, int], Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in args:
            self._keep(value)
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            self._keep(value)
        return out

    def _keep(self, value: Any) -> None:
        if isinstance(value, Tensor) and value.grad_fn is not None:
            self.values.setdefault((value.grad_fn, value.output_nr), value.detach().clone())

    def value(self, node: Node, output: int) -> Tensor | None:
        if node.name().endswith("AccumulateGrad"):
            return node.variable.detach()  # type: ignore[attr-defined]
        return self.values.get((node, output))


class _Step(NamedTuple):
    """A call of a spike function, and how its membrane came about."""

    recorded: _Recorded
    staircase: Staircase | None
    walk: Walk | None


def _plan(
    net: nn.Module,
    calls: Sequence[_Recorded],
    tape: _Tape,
    places: Any,
) -> SpikePlan:
    steps = _spikes(calls)
    groups = _neurons(steps)
    names = _names(net, [steps[group[0]].recorded.path for group in groups])  # type: ignore[union-attr]
    neurons: list[SpikeNeuron] = []
    planned: dict[int, tuple[int, int]] = {}
    for number, group in enumerate(groups):
        members = [step for place in group if (step := steps[place]) is not None]
        recorded, staircase = members[0].recorded, members[0].staircase
        form = recorded.call.function.__name__
        if recorded.call.function is Fired:
            form = COMPARISON
        neurons.append(
            SpikeNeuron(names[number], form, len(group), staircase, _recurrence(members, tape))
        )
        planned |= {place: (number, step) for step, place in enumerate(group)}
    return SpikePlan(
        tuple(neurons),
        tuple(
            PlannedCall(
                function_name(recorded.call.function), recorded.path, *planned.get(place, (-1, 0))
            )
            for place, recorded in enumerate(calls)
        ),
        places,
        max(Counter((s.recorded.path, s.recorded.where) for s in steps if s).values(), default=0),
    )


def _spikes(calls: Sequence[_Recorded]) -> list[_Step | None]:
    """The calls that make spikes of something that depends on the image; None for others."""
    known: dict[Any, Staircase] = {}
    steps: list[_Step | None] = []
    for recorded in calls:
        call, out = recorded.call, recorded.out
        if not any(call.needs) or not recorded.alive:
            steps.append(None)
            continue
        key = (call.function, *(v for v in call.arguments if isinstance(v, int | float)))
        staircase = known.get(key)
        if call.function is Fired:
            staircase = _of_comparison(out)
        elif staircase is None or not _suits(staircase, call, out):
            staircase = find_staircase(call.repeat, call.arguments, out)
        if staircase is not None:
            known[key] = staircase
            membrane = call.arguments[staircase.argument]
            steps.append(_Step(recorded, staircase, walk(membrane)))
        else:
            steps.append(_Step(recorded, None, None) if _looks_like_spikes(call, out) else None)
    return steps


def _suits(staircase: Staircase, call: Call, out: Tensor) -> bool:
    place = staircase.argument
    if place >= len(call.arguments) or not isinstance(call.arguments[place], Tensor):
        return False
    membrane = staircase.membrane(call.arguments)
    return membrane.shape == out.shape and staircase.agrees(membrane, out)


def _of_comparison(out: Tensor) -> Staircase | None:
    """The staircase of a comparison, whose membrane is counted from its threshold."""
    levels = out.detach().unique().tolist()
    if len(levels) > 2:
        levels = out.detach().mul(1e4).round().div(1e4).unique().tolist()
    low, high = (0.0, 1.0) if len(levels) == 1 else (levels[0], levels[-1])
    return Staircase(0, None, (0.0,), (low, high)) if len(levels) <= 2 else None


def _looks_like_spikes(call: Call, out: Any) -> bool:
    """Whether a function without a staircase gives a few values only, for other inputs too.

    One whose input is spikes, such as a delay, makes none.
    """
    if not isinstance(out, Tensor) or out.unique().numel() != 2:
        return False
    tensors = [v for v, need in zip(call.arguments, call.needs, strict=False) if need]
    if any(isinstance(v, Tensor) and v.unique().numel() == 2 for v in tensors):
        return False
    moved = [
        v.detach() * 0.93 + 0.037 if isinstance(v, Tensor) and v.is_floating_point() else v
        for v in call.arguments
    ]
    try:
        with torch.no_grad():
            other = call.repeat(*moved)
    except Exception:  # whatever somebody's function does not take
        return True
    return isinstance(other, Tensor) and other.unique().numel() < LEVELS


def _neurons(steps: Sequence[_Step | None]) -> list[list[int]]:
    """Places of the calls of each neuron, in order."""
    groups: list[list[int]] = []
    group_of: dict[int, list[int]] = {}
    inner: dict[Node, int] = {}
    ends: dict[Node, int] = {}
    by_line: dict[Any, list[int]] = {}
    for place, step in enumerate(steps):
        if step is None:
            continue
        line = (step.recorded.path, step.recorded.where, tuple(step.recorded.out.shape))
        before = _before(step, steps, inner, ends)
        group = group_of.get(before) if before is not None else by_line.get(line)
        if group is None:
            group = []
            groups.append(group)
        if before is None:  # a state that the graph does not show: calls of one line
            by_line[line] = group
        group.append(place)
        group_of = {k: v for k, v in group_of.items() if v is not group} | {place: group}
        if step.walk is not None:
            chain = step.walk.chain
            inner |= {node: place for node in chain if node in step.walk.inner}
            ends[chain[-1]] = place
    return groups


def _before(
    step: _Step,
    steps: Sequence[_Step | None],
    inner: dict[Node, int],
    ends: dict[Node, int],
) -> int | None:
    """The call of the step before, whose membrane this one's is made of."""
    if step.walk is None:
        return None
    reached = {parent for node in step.walk.inner for parent, _ in node.next_functions}
    for known, nodes in ((inner, step.walk.inner - {step.walk.top}), (ends, reached)):
        places = sorted((known[node] for node in nodes if node in known), reverse=True)
        for candidate in places:
            other = steps[candidate]
            if other is not None and _alike(step.recorded, other.recorded):
                return candidate
    return None


def _alike(a: _Recorded, b: _Recorded) -> bool:
    return (a.path, a.call.function, a.out.shape) == (b.path, b.call.function, b.out.shape)


def _names(net: nn.Module, paths: Sequence[str]) -> list[str]:
    """Names of neurons by the paths of their modules, numbered where several share one."""
    count, seen, names = Counter(paths), Counter[str](), []
    for path in paths:
        seen[path] += 1
        name = path or type(net).__name__
        names.append(f"{name}#{seen[path]}" if count[path] > 1 else name)
    return names


def _recurrence(members: Sequence[_Step], tape: _Tape) -> Recurrence | str:
    """The recursion of a neuron, or why it was not recognised."""
    try:
        return _recognised(members, tape)
    except Unrecognised as reason:
        few = len(members) == 2 and str(reason) != SILENT
        return "two steps are too few to recognise its recursion" if few else str(reason)


def _recognised(members: Sequence[_Step], tape: _Tape) -> Recurrence:
    staircase = members[0].staircase
    walks = [step.walk for step in members]
    if staircase is None or any(w is None for w in walks):
        raise Unrecognised("its spikes are no step function of a membrane with a gradient")
    if len(staircase.edges) > 1:
        raise Unrecognised(f"it fires in {len(staircase.levels)} levels")
    if len(members) < 2:
        raise Unrecognised("it is called once, and rates need several steps")
    last, before = walks[-1], walks[-2]
    assert last is not None and before is not None
    spike = members[-2].recorded.out.grad_fn
    paths = recurrent_paths(last, before, spike)
    if paths is None:
        raise Unrecognised("what its membrane keeps from the step before was not found")
    ends = [node.name() for path in paths if (node := follow(last.top, path)) is not None]
    for between in walks[2:]:
        assert between is not None
        if [n.name() for p in paths if (n := follow(between.top, p)) is not None] != ends:
            raise Unrecognised("its steps are not alike")
    inputs = []
    for step in walks[1:]:
        assert step is not None
        values = [tape.value(*output) for output in drives(step.top, paths)]
        if any(value is None for value in values):
            raise Unrecognised("its input could not be told from its membrane")
        inputs.append([value for value in values if value is not None])
    arguments = [step.recorded.call.arguments for step in members]
    membranes = [staircase.membrane(a).detach() - staircase.edges[0] for a in arguments]
    low, jump = staircase.levels[0], staircase.jumps[0]
    spikes = [(step.recorded.out.detach() - low) / jump for step in members]
    resets = reset_paths(last, spike)
    known = fit(membranes, spikes, inputs, tuple(paths))
    return known._replace(resets=None if resets is None else tuple(resets))


def tensors_of(out: Any) -> list[Tensor]:
    """All tensors in what a network returns."""
    return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
