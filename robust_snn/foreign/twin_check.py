"""Whether twins do what the neurons of a network do, on given images and in double precision.

The author's own run is compared with the run of all steps at once, neuron by neuron and step by
step: what reaches a neuron says whether the network may run that way, what the neuron answers says
whether its dynamics were read rightly. A neuron that never fires has shown nothing; then the first
question is asked again with random spikes in the place of all neurons' own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from robust_snn.foreign.net_state import spikes_of
from robust_snn.foreign.runnable import Layout
from robust_snn.foreign.spike_function import in_its_precision
from robust_snn.foreign.spike_plan import inside
from robust_snn.foreign.twin import SILENT, TwinNeuron

if TYPE_CHECKING:
    from robust_snn.foreign.foreign_net import ForeignSNN

Run = Callable[[], Tensor]  # of the network on the compared images, from rest to its logits

COMPARED = 8  # images at most


class Finding(NamedTuple):
    """What a comparison found.

    Attributes:
        whole: Why the network cannot run all steps at once; None where it can.
        neurons: Then, why each neuron cannot be replaced; None where it can.
    """

    whole: str | None
    neurons: Sequence[str | None] = ()


class _Call(NamedTuple):
    """One call of a neuron.

    Attributes:
        currents: Mean current by step and image, or by step.
        spikes: What it answered; empty where random spikes were given for it.
        wrong: Why its twin answers differently; None where it does not.
    """

    currents: Tensor
    spikes: Tensor
    wrong: str | None = None


def images_on_which(fired: Sequence[Tensor], batch: int) -> Tensor:
    """Which images to compare: the first of the batch, after those on which silent neurons fired.

    Args:
        fired: For each neuron that was silent before, on which images it fired, `[B]`.
        batch: The batch size `B`.
    """
    counts = torch.zeros(batch)
    for images in fired:
        counts[: len(images)] += images[:batch].cpu()
    return counts.argsort(descending=True, stable=True)[:COMPARED]


def compare_with_twins(net: ForeignSNN, probe: Tensor) -> Finding:
    """What a copy of a network in double precision shows of the twins of its neurons."""
    found = net.study(probe)
    if net.T is None and not net.sequences:
        return Finding("the net runs its steps itself; give T, and a net that takes one step")
    others = [n for n in found.plan.names if not inside(n, *net.paths)]
    if others:
        return Finding(f"{others[0]} fires too and is of no known library")
    if found.layout in (Layout.BATCH_FIRST, Layout.TIME_LAST):
        return Finding(f"it is shown {found.layout.value}")
    try:
        with net.at_rest(probe):
            double = copy.deepcopy(net).double()
    except Exception as error:  # whatever a net holds that cannot be copied or converted
        return Finding(f"it has no copy in double precision ({error})")
    images = probe.detach().double()
    with ExitStack() as stack:
        for twin in double.members:
            spike = in_its_precision(twin.node, twin.owner)
            stack.enter_context(twin.owner.swap(twin.node, spike, False))
        compared = find_differences(
            lambda: double.with_own_neurons(images, found),
            lambda: double.with_twins(images, found.reading),
            double.members,
        )
    for twin, copied in zip(net.members, double.members, strict=True):
        twin.others = copied.others
    return compared


def batch_rewiring(net: ForeignSNN, x: Tensor) -> str | None:
    """Why a whole batch cannot run all steps at once, if it cannot; in single precision."""
    found, images = net.study(x), x.detach()
    with net.at_rest(x):
        copied = copy.deepcopy(net)
    return find_rewiring(
        lambda: copied.with_own_neurons(images, found),
        lambda: copied.with_twins(images, found.reading),
        copied.members,
    )


def find_differences(own: Run, at_once: Run, twins: Sequence[TwinNeuron]) -> Finding:
    """Compares the author's own run of a network with that of all steps at once.

    Args:
        own: The network in double precision with its own neurons.
        at_once: The same with `twins` in their places.
        twins: The twins; for the time of the comparison their neurons run inside them.
    """
    with _traces(twins, twins=False) as expected:
        try:
            logits = own()
        except Exception as error:  # whatever a net does that keeps float32 inside
            return Finding(f"it does not run in double precision ({error})")
    with _traces(twins, twins=True) as found:
        try:
            got = at_once()
        except Exception as error:  # whatever a net does that takes single steps only
            return Finding(f"it does not run all steps at once ({error})")
    whole = _elsewhere(twins, expected, found) or _other_logits(logits, got)
    neurons = [_wrong(calls) for calls in found]
    if whole is None and SILENT in neurons:
        whole = find_rewiring(own, at_once, twins)
    return Finding(whole, neurons)


def find_rewiring(own: Run, at_once: Run, twins: Sequence[TwinNeuron]) -> str | None:
    """Why a network cannot run all steps at once, if it cannot, whatever its neurons do.

    Random spikes take the place of all neurons' own, so that rounding moves none of them, and
    single precision is enough.

    Args:
        own: The network with its own neurons.
        at_once: The same with `twins` in their places.
        twins: The twins; for the time of the comparison their neurons run inside them.
    """
    try:
        with _traces(twins, twins=False, random=True) as expected:
            logits = own()
        with _traces(twins, twins=True, random=True) as found:
            got = at_once()
    except Exception as error:
        return f"it does not run all steps at once ({error})"
    return _elsewhere(twins, expected, found) or _other_logits(logits, got)


def _other_logits(expected: Tensor, found: Tensor) -> str | None:
    return None if _close(found, expected) else "all steps at once it gives other logits"


def _elsewhere(
    twins: Sequence[TwinNeuron], expected: list[list[_Call]], found: list[list[_Call]]
) -> str | None:
    """Why the currents of the two runs differ, if they do."""
    for twin, own, at_once in zip(twins, expected, found, strict=True):
        kind = type(twin.node).__name__
        steps = twin.steps if twin.folded else 1
        if len(own) != steps * len(at_once) or (twin.folded and len(at_once) > 1):
            return f"{kind} is called {len(own)} times where one call a step was expected"
        pairs = [(_joined(own, field), _joined(at_once, field)) for field in ("currents", "spikes")]
        if any(not _close(a, b) for a, b in pairs):
            return f"all steps at once {kind} gets other currents, as in networks with feedback"
    return None


def _joined(calls: list[_Call], field: str) -> Tensor:
    return torch.cat([getattr(call, field) for call in calls]) if calls else torch.empty(0)


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same but for the order of sums."""
    slack = 1e-9 if b.dtype == torch.float64 else 1e-4
    largest = b.abs().max() if b.numel() else 0
    return a.shape == b.shape and bool(((a - b).abs() <= slack * (1 + largest)).all())


def _wrong(calls: list[_Call]) -> str | None:
    """Why a neuron cannot be replaced by its twin, from its calls."""
    reasons = [call.wrong for call in calls if call.wrong is not None]
    if reasons:
        return reasons[0]
    return None if any(call.spikes.any() for call in calls) else SILENT


@contextmanager
def _traces(
    neurons: Sequence[TwinNeuron], *, twins: bool, random: bool = False
) -> Iterator[list[list[_Call]]]:
    """Notes every call of some neurons, or of their twins.

    Args:
        neurons: The twins.
        twins: Whether the twins run; they are then compared with our kernels.
        random: Whether random spikes, the same in every run, take the place of all spikes.
    """
    calls: list[list[_Call]] = [[] for _ in neurons]

    def hook(place: int, twin: TwinNeuron) -> Any:
        def note(_: nn.Module, inputs: tuple[Any, ...], out: Any) -> Any:
            current, seen = inputs[0], spikes_of(out)
            if random:
                steps = twin.steps if twins and twin.folded else 1
                seen = _random(seen, place, len(calls[place]), steps)
            wrong = None if random or not twins else twin.difference(current, seen)
            means = current.reshape(len(current), -1).mean(1)
            kept = seen.detach().new_empty(0) if random else seen.detach()
            calls[place].append(_Call(means.detach(), kept, wrong))
            return (seen, *out[1:]) if isinstance(out, tuple) else seen

        return note

    with ExitStack() as stack:
        for place, twin in enumerate(neurons):
            module = twin if twins else twin.node
            stack.callback(module.register_forward_hook(hook(place, twin)).remove)
            stack.enter_context(twin.comparing())
        yield calls


def _random(spikes: Tensor, neuron: int, call: int, steps: int) -> Tensor:
    """Random spikes shaped like these, those of `steps` steps of a neuron from a call on."""
    parts = []
    for step in range(call * steps, (call + 1) * steps):
        generator = torch.Generator(spikes.device).manual_seed(1009 * neuron + step)
        shape = (len(spikes) // steps, *spikes.shape[1:])
        parts.append(torch.randint(2, shape, generator=generator, device=spikes.device))
    return torch.cat(parts).to(spikes)
