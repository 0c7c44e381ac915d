"""Running a network once to find where and how its neurons fire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from robust_snn.foreign.comparison import Places
from robust_snn.foreign.comparisons import Comparisons
from robust_snn.foreign.exchanged_spikes import Fired, Rounded
from robust_snn.foreign.gradient_hooks import hooked_modules, without_module_hooks
from robust_snn.foreign.graph_walk import (
    Path,
    Walk,
    drives,
    follow,
    parents,
    recurrent_paths,
    reset_paths,
    sources,
    walk,
)
from robust_snn.foreign.image_axis import image_axes
from robust_snn.foreign.interception import (
    exchange_kept_apply,
    function_name,
    functions_of,
    listening,
    nodes_of,
    open_function,
)
from robust_snn.foreign.library import find_nodes
from robust_snn.foreign.loose_ends import UNREACHED
from robust_snn.foreign.network_modes import Attached, watching
from robust_snn.foreign.outputs import fields_of
from robust_snn.foreign.recurrence import SILENT, Recurrence, Traces, Unrecognised, fit, stirred_fit
from robust_snn.foreign.scripted_code import scripted_neurons
from robust_snn.foreign.spike_plan import (
    COMPARISON,
    HIDDEN,
    JUMP,
    ROUNDING,
    SCRIPTED,
    PlannedCall,
    SpikeNeuron,
    SpikePlan,
    inside,
)
from robust_snn.foreign.spike_recording import Recorded, Recorder, Replace, Tape
from robust_snn.foreign.spike_steps import (
    Step,
    common_staircase,
    find_steps,
    has_hidden_links,
    neurons_of,
    walks_of,
)
from robust_snn.foreign.straight_through import Sums

UNLIKE = "its steps do not agree on which spikes it gives"
Run = Callable[[Tensor], Sequence[Tensor]]  # images to the tensors that a network returns
Groups = Sequence[Sequence[Sequence[int]]]  # neurons, their steps, and the calls of these
CHOICES = ("argmax", "argmin", "topk")  # of one neuron among others, by a library too


def survey(net: nn.Module, run: Run, images: Tensor) -> SpikePlan:
    """Finds the spike functions of a network.

    Args:
        net: The network.
        run: A forward pass of it as its author means it, from rest, `inside_network`.
        images: A few images, which some neurons should fire at.
    """
    leaf = images.detach().clone().requires_grad_()
    plan, outputs = _look(net, run, leaf)
    for function in plan.opaque:
        exchange_kept_apply(function)
        try:
            other, again = _look(net, run, leaf, plan.unwrapped | {function})
        except Exception:  # whatever a forward pass does to tensors that have a gradient
            continue
        same = len(again) == len(outputs) and all(map(torch.equal, outputs, again))
        better = len(other.missed) < len(plan.missed) and len(other.reached) >= len(plan.reached)
        if same and better:  # not where what is inside stops the gradient
            plan = replace(other, wrapped=plan.wrapped or plan)
    return plan


def _look(
    net: nn.Module, run: Run, leaf: Tensor, unwrapped: frozenset[str] = frozenset()
) -> tuple[SpikePlan, Sequence[Tensor]]:
    """The spike functions of a network, and what it returns.

    Args:
        net: The network.
        run: A forward pass of it.
        leaf: Images with a gradient.
        unwrapped: Functions whose forward passes are taken for code of the network.
    """
    hooked = bool(hooked_modules(net))
    with torch.enable_grad(), without_module_hooks(net):
        outputs = run(leaf)
        more = set(map(open_function, functions_of(outputs))) | {True}
        told, mistaken = Sums(), False
        while True in more or mistaken:
            heard = Recorder(net, unwrapped)
            looking = Comparisons(running=heard.running, told=told)
            heard.told = looking.note_call
            with heard.following(), listening(heard), watching(looking):
                outputs = run(leaf)  # which may show functions that were behind a comparison
            more = set(map(open_function, functions_of(outputs)))
            sums = looking.straight_through.sums
            before, told = told, told.joined(sums)
            mistaken = sums.mistaken and told != before  # another pass would show no more
        others = [s for s in find_steps(heard.calls) if s and s.recorded.call.function is not Fired]
        spikes = {s.recorded.node: (s.recorded.path, *s.recorded.where[1:]) for s in others}
        places = looking.seen.of_spikes(spikes, outputs)
        loose = [*looking.loose_ends(spikes, outputs), *_elsewhere(looking, run, leaf, outputs)]
        loose += [("", "a sum of spikes", UNLIKE)] if sums.mistaken else []
        if places:
            open_function(Fired)
            open_function(Rounded)
        recording = _Recording(net, run, leaf, places, unwrapped)
        pass_ = recording.run()
        steps = find_steps(pass_.calls)
        groups: Groups = neurons_of(steps)
        if has_hidden_links(steps, groups):
            groups = _with_hidden_links(recording, pass_, steps) or groups
        plan = _plan(net, pass_, steps, groups, places, loose)
        axes = image_axes(groups, steps, len(leaf), recording.calls_of_twice_as_many)
        plan = plan.with_neurons(
            [n._replace(images=axes.get(i)) for i, n in enumerate(plan.neurons)]
        )
        idle = tuple(path for path in find_nodes(net) if path not in heard.ran)
        plan = replace(plan, idle=idle, hooked=hooked or looking.hooked, unwrapped=unwrapped)
        if plan.unsettled:
            plan = _settled(plan, (pass_, recording.run(_stirring(steps))), steps, groups)
    return plan, outputs


def _elsewhere(
    looking: Comparisons, run: Run, leaf: Tensor, outputs: Sequence[Tensor]
) -> list[tuple[str, str, str]]:
    """Names what leaves PyTorch, if the outputs depend on it."""
    other = looking.elsewhere()
    if other is None:
        return []
    try:
        with torch.no_grad(), watching(other):
            again = run(leaf)
    except Exception:  # whatever a network does with values that are none of its own
        again = []
    changed = len(again) != len(outputs) or not all(map(torch.equal, outputs, again))
    return [("", "values that leave PyTorch", UNREACHED)] if changed else []


class _Pass(NamedTuple):
    """What was recorded of a forward pass."""

    calls: list[Recorded]
    tape: Tape


class _Recording(NamedTuple):
    """A forward pass that is recorded; see `_look`."""

    net: nn.Module
    forward: Run
    leaf: Tensor
    places: Places
    unwrapped: frozenset[str]

    def run(self, replace: Replace | None = None, attached: bool = False) -> _Pass:
        recorder, tape = Recorder(self.net, self.unwrapped, replace), Tape()
        modes = [Attached(), tape, Comparisons(self.places)][not attached :]
        with recorder.following(), listening(recorder), watching(*modes):
            outputs = self.forward(self.leaf)
        alive = nodes_of(outputs)
        calls = [call._replace(alive=call.node in alive) for call in recorder.calls]
        return _Pass(calls, tape)

    def calls_of_twice_as_many(self) -> list[Recorded]:
        """The calls for twice as many images; none if the network takes batches of one size."""
        images = torch.cat([self.leaf, 1 - self.leaf]).detach().requires_grad_()
        try:
            return self._replace(leaf=images).run().calls
        except Exception:  # whatever a network does with another batch
            return []


def _with_hidden_links(
    recording: _Recording, pass_: _Pass, steps: Sequence[Step | None]
) -> Groups | None:
    """The neurons of a pass, told apart by states that it detaches; None if that fails."""
    try:
        other = recording.run(attached=True)
    except Exception:  # whatever a network does to tensors that must not have a gradient
        return None
    if [c.path for c in other.calls] != [c.path for c in pass_.calls]:
        return None
    return neurons_of(find_steps(other.calls, steps), whole=True)


def _plan(
    net: nn.Module,
    pass_: _Pass,
    steps: Sequence[Step | None],
    groups: Groups,
    places: Places,
    loose: Sequence[tuple[str, str, str]],
) -> SpikePlan:
    paths = [pass_.calls[group[0][0]].path for group in groups]
    neurons: list[SpikeNeuron] = []
    planned: dict[int, tuple[int, int]] = {}
    for number, (name, group) in enumerate(zip(_names(net, paths), groups, strict=True)):
        members = [step for calls in group for c in calls if (step := steps[c]) is not None]
        function, staircase = members[0].recorded.call.function, common_staircase(members)
        form = {Fired: COMPARISON, Rounded: ROUNDING}.get(function, function.__name__)
        recurrence = _recurrence(group, steps, pass_.tape)
        neurons.append(SpikeNeuron(name, form, len(group), staircase, recurrence))
        planned |= {place: (number, step) for step, calls in enumerate(group) for place in calls}
    neurons += [SpikeNeuron(path, SCRIPTED, 1, None, HIDDEN) for path in scripted_neurons(net)]
    known = find_nodes(net)
    neurons += [
        SpikeNeuron(f"{path or type(net).__name__}#{where}", JUMP, 1, None, why)
        for path, where, why in loose
        if not (path and inside(path, *known)) or where.startswith(CHOICES)
    ]
    calls = [
        PlannedCall(function_name(c.call.function), c.path, *planned.get(place, (-1, 0)))
        for place, c in enumerate(pass_.calls)
    ]
    return SpikePlan(tuple(neurons), tuple(calls), places, _loop(groups, steps))


def _loop(groups: Groups, steps: Sequence[Step | None]) -> int:
    """How many time steps a pass has: neither neurons nor lines of code are called more often.

    A neuron may fire by two lines in a step, and a line may serve several layers.
    """
    lines = Counter((s.recorded.path, s.recorded.where[1:]) for s in steps if s is not None)
    return min(max(map(len, groups), default=0), max(lines.values(), default=0))


def _names(net: nn.Module, paths: Sequence[str]) -> list[str]:
    """Names of neurons by the paths of their modules, numbered where several share one."""
    count, seen, names = Counter(paths), Counter[str](), []
    for path in paths:
        seen[path] += 1
        name = path or type(net).__name__
        names.append(f"{name}#{seen[path]}" if count[path] > 1 else name)
    return names


def _recurrence(
    group: Sequence[Sequence[int]], steps: Sequence[Step | None], tape: Tape
) -> Recurrence | str:
    """The recursion of a neuron, or why it was not recognised."""
    try:
        return fit(_traces(group, steps, tape))
    except Unrecognised as reason:
        few = len(group) == 2 and "its membrane" in str(reason)
        return "two steps are too few to recognise its recursion" if few else str(reason)


def _traces(group: Sequence[Sequence[int]], steps: Sequence[Step | None], tape: Tape) -> Traces:
    """What the recursion of a neuron is read from.

    Raises:
        Unrecognised: If it is none that we know.
    """
    members = [step for calls in group if (step := steps[calls[0]]) is not None]
    staircase = common_staircase(members)
    if staircase is None or any(step.walk is None for step in members):
        raise Unrecognised("its spikes are no step function of a membrane with a gradient")
    if staircase.chance:
        raise Unrecognised("it fires by chance")
    if len(staircase.edges) > 1:
        raise Unrecognised(f"it fires in {len(staircase.levels)} levels")
    if len(members) < 2:
        raise Unrecognised("it is called once, and rates need several steps")
    walks = walks_of(members)
    spikes = _spike_nodes(group[-2], steps, walks[-1], tape)
    after, before = walks[-1], walks[-2]
    paths, resets = (find(after, before, spikes) for find in (recurrent_paths, reset_paths))
    if paths is None:
        raise Unrecognised("what its membrane keeps from the step before was not found")
    if paths and any(_follows_own(node, members[:-1]) for node, _ in drives(after.top, paths)):
        raise Unrecognised("it keeps more than its membrane, such as a second compartment")
    if len({tuple(_ends(walk.top, paths)) for walk in walks[2:]}) > 1:
        raise Unrecognised("its steps are not alike")
    inputs = [
        tape.all_values(drives(walk.top, paths) if paths else sources(walk)) for walk in walks[1:]
    ]
    if any(values is None for values in inputs):
        raise Unrecognised("its input could not be told from its membrane")
    arguments = [step.recorded.arguments for step in members]
    membranes = [staircase.membrane(a).detach() - staircase.edges[0] for a in arguments]
    low, jump = staircase.levels[0], staircase.jumps[0]
    fired = [(step.recorded.out.detach() - low) / jump for step in members]
    known = [values for values in inputs if values is not None]
    return Traces(membranes, fired, known, tuple(paths), None if resets is None else tuple(resets))


def _follows_own(drive: Node, earlier: Sequence[Step]) -> bool:
    """Whether a drive is made of earlier spikes or membranes of the neuron itself."""
    own = {step.recorded.node for step in earlier}
    own |= {node for way in walks_of(earlier[1:]) for node in way.chain}  # the first has no past
    inner = walk(drive).inner
    return bool(own & {*inner, *(above for node in inner for above in parents(node))})


def _ends(top: Any, paths: Sequence[Path]) -> list[str]:
    return [node.name() for path in paths if (node := follow(top, path)) is not None]


def _spike_nodes(
    calls: Sequence[int], steps: Sequence[Step | None], after: Walk, tape: Tape
) -> set[Node]:
    """What gives the spikes of a step to the membrane `after` it.

    That is their function, or what reads them from a tensor that they were written to.
    """
    members = [step.recorded for place in calls if (step := steps[place]) is not None]
    spikes = members[0].out.detach()
    found = {recorded.node for recorded in members}
    if spikes.unique().numel() > 1:
        for node, output in sources(after):
            value = tape.value(node, output)
            if value is not None and value.shape == spikes.shape and torch.equal(value, spikes):
                found.add(node)
    return found


def _stirring(steps: Sequence[Step | None]) -> Replace:
    """Gives neurons that fire or not random spikes, so that all of them show their reset."""
    generator = torch.Generator().manual_seed(0)

    def replace(place: int, out: Any) -> Any:
        step = steps[place] if place < len(steps) else None
        if step is None or step.staircase is None or len(step.staircase.edges) > 1:
            return out
        low, high = step.staircase.levels
        coins = torch.randint(2, out.shape, generator=generator).to(out)
        return coins * (high - low) + low

    return replace


def _settled(
    plan: SpikePlan,
    passes: tuple[_Pass, _Pass],
    steps: Sequence[Step | None],
    groups: Groups,
) -> SpikePlan:
    """The plan with recursions that neurons show under random spikes and by themselves."""
    seen, stirred = passes
    if [c.path for c in seen.calls] != [c.path for c in stirred.calls]:
        return plan
    others = find_steps(stirred.calls, steps)
    neurons = list(plan.neurons)
    for place, group in enumerate(groups):
        if neurons[place].recurrence != SILENT:
            continue
        try:
            own, random = _traces(group, steps, seen.tape), _traces(group, others, stirred.tape)
            found = stirred_fit(own, random)
        except Unrecognised:
            continue
        neurons[place] = neurons[place]._replace(recurrence=found)
    return plan.with_neurons(neurons)


def tensors_of(out: Any) -> list[Tensor]:
    """All tensors in what a network returns."""
    if isinstance(out, Tensor):
        return [out]
    if not isinstance(out, list | tuple):
        out = (fields_of(out) or {}).values()
    return [tensor for part in out for tensor in tensors_of(part)]
