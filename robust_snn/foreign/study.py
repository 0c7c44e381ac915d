"""How somebody's network is to be run and read, found by running it on a few images.

It is run on two batches of different sizes, in the ways that its arguments allow, and that way is
taken in which every image gets logits of its own, whatever images are beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robust_snn.foreign.hidden_state import restore_all, same, snapshot
from robust_snn.foreign.interception import Call, functions_of, listening, open_function
from robust_snn.foreign.library import Library
from robust_snn.foreign.net_state import counting_calls
from robust_snn.foreign.outputs import NotRead, Reading, find_reading
from robust_snn.foreign.outside_state import moved_outside, outside
from robust_snn.foreign.random_sources import fingerprints
from robust_snn.foreign.spike_plan import SpikePlan
from robust_snn.foreign.survey import survey, tensors_of
from robust_snn.kernels import sample_keys
from robust_snn.neurons.pass_settings import keyed
from robust_snn.utils.errors import InputError, is_out_of_memory

BATCHES = (3, 2)  # sizes of the batches that tell the axes of an output apart
SURVEYED = 16  # images at most, and pixels, on which spike functions are looked for
PIXELS = 400_000
WEIGHTED = ("linear", "matmul", "bmm", "einsum", "conv1d", "conv2d", "conv3d")
INFLUENCE = 0.05  # of the logits, which another place in the batch may change by rounding

_log = logging.getLogger("robust_snn")


class Layout(Enum):
    """How a network is shown an image for all its steps."""

    IMAGES = "images [B, ...], whose steps are the network's own"
    STEPS = "one step [B, ...] per call"
    TIME_FIRST = "all steps [T, B, ...]"
    BATCH_FIRST = "all steps [B, T, ...]"
    TIME_LAST = "all steps [B, ..., T]"


class Study(NamedTuple):
    """What running a network showed.

    Attributes:
        layout: How it is shown an image.
        reading: How its output is read.
        plan: Its spike functions.
        stateful: Whether it keeps something between calls.
    """

    layout: Layout
    reading: Reading
    plan: SpikePlan
    stateful: bool


class NotRunnable(InputError):
    """The network runs in none of the ways in which it may be shown images of a shape."""


class ImagesMix(NotRead):
    """The logits of an image depend on the images beside it."""


class _Differs(Exception):
    """A network answers the same images differently, and why that may be."""


class Runnable(Protocol):
    """What is studied: a network of other people and how its caller says it is to be run."""

    net: nn.Module
    T: int | None
    sequences: bool
    in_pairs: bool

    @property
    def name(self) -> str:
        """Class of the network, for people."""

    @property
    def stochastic(self) -> bool:
        """Whether two runs may differ."""

    @property
    def wants_membrane(self) -> bool:
        """Whether membranes are read where spikes are returned too."""

    def raw(self, x: Tensor, layout: Layout) -> Any:
        """What the network returns for images, from rest."""

    def nodes(self) -> Sequence[tuple[nn.Module, Library]]:
        """The neurons of known libraries."""

    def find_state(self, x: Tensor, layout: Layout) -> bool:
        """Finds what the network keeps between calls, and whether there is something."""


def study(subject: Runnable, x: Tensor) -> Study:
    """Finds out how a network is to be run on images like these.

    Args:
        subject: The network.
        x: Images `[B, C, H, W]`, or event frames `[B, T, C, H, W]`.

    Raises:
        InputError: If it cannot be run so that every image gets logits of its own; a `NotRunnable`
            if that may be for the shape of the images.
    """
    images, elsewhere = _some(x), outside(subject.net)
    if subject.T is not None and x.dim() == 4:
        _refuse_own_steps(subject, images)
    failures, mixes = list[str](), False
    before = snapshot(subject.net)
    for layout in _layouts(subject, x):
        try:
            found = _attempt(subject, images, layout)
        except _Differs as error:
            kept = moved_outside(elsewhere, subject.net)
            raise InputError(
                f"{subject.name} answers the same images differently; {kept or error}"
            ) from None
        except InputError:
            raise
        except Exception as error:  # whatever a network does with what it is not made for
            restore_all(subject.net, before)
            if is_out_of_memory(error):  # a smaller batch may do
                raise
            mixes = mixes or isinstance(error, ImagesMix)
            failures.append(f"shown {layout.value}: {error}")
            continue
        if subject.T is None:
            _refuse_one_step(subject, images, found)
        try:
            plan = spike_plan(subject, x, layout, found.reading)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, InputError):
                raise
            raise InputError(
                f"{subject.name} takes {len(images)} images, and fails on {len(_surveyed(x))} "
                f"({type(error).__name__}: {error}); it must take any number of them"
            ) from error
        _warn_of_other_outputs(subject, images, found, plan.loop)
        return found._replace(plan=plan)
    if kept := moved_outside(elsewhere, subject.net):
        raise NotRunnable(f"{subject.name} runs on one batch of images and not on another; {kept}")
    if mixes and subject.T is None and not _takes_steps(subject, images):
        raise InputError(
            f"{subject.name}: {failures[-1].partition(': ')[2]}, so that no image has logits of "
            "its own; somewhere the batch is an axis of time or of features: give neurons and "
            "norms [T, B, ...] there in place of [T * B, ...]"
        )
    call = "adapt(net)" if subject.T is not None else "adapt(net, T=...)"
    raise NotRunnable(
        f"{subject.name} gives no logits for each of {tuple(x.shape)} images "
        f"({'; '.join(failures)}); say robust_snn.{call}, or which part of its output to read: "
        "adapt(net, output=function); what it keeps outside of its modules its forward has to reset"
        f"{_other_numbers(subject.net)}"
    )


def _other_numbers(net: nn.Module) -> str:
    """What is said of a network whose weights are none of single precision."""
    kinds = {p.dtype for p in net.parameters() if p.is_floating_point()} - {torch.float32}
    if any(p.is_meta for p in net.parameters()):
        return "; its weights are on the meta device, without values: load them first"
    if not kinds:
        return ""
    found = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    return f"; its weights are {found}, and images float32: give adapt(net.float())"


class _Regained(TorchFunctionMode):
    """Gives the inputs of layers with weights a gradient, where an encoder has left none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in WEIGHTED and isinstance(args[0], Tensor):
            value = args[0]
            if value.is_floating_point() and not value.requires_grad:
                args = (value.detach().requires_grad_(), *args[1:])
        return func(*args, **(kwargs or {}))


def spike_plan(
    subject: Runnable, x: Tensor, layout: Layout, reading: Reading | None = None
) -> SpikePlan:
    """The spike functions of a network, looked for on some of these images.

    Args:
        subject: The network.
        x: The images.
        layout: How it is shown them.
        reading: What of its output is read, so that nothing else counts.
    """

    def run(images: Tensor) -> list[Tensor]:
        out = subject.raw(images, layout)
        return tensors_of(out) if reading is None else [reading.steps(out)]

    return survey(subject.net, run, _surveyed(x))


def _surveyed(x: Tensor) -> Tensor:
    """The images on which spike functions are looked for."""
    return x[: max(1, min(SURVEYED, PIXELS // max(1, x[0].numel())))]


def open_functions(subject: Runnable, x: Tensor, layout: Layout) -> None:
    """Lets spike passes listen to the functions of a network that another process has studied."""
    with torch.enable_grad():
        leaf = x[:1].detach().clone().requires_grad_()
        for function in functions_of(tensors_of(subject.raw(leaf, layout))):
            open_function(function)


def _some(x: Tensor) -> Tensor:
    """Three images, made of those at hand where they are fewer."""
    images = [x[i % len(x)] for i in range(BATCHES[0])]
    return torch.stack([im if i < len(x) else im.flip(-1) for i, im in enumerate(images)]).detach()


def _layouts(subject: Runnable, x: Tensor) -> tuple[Layout, ...]:
    if subject.T is None and x.dim() == 5:
        first, second = Layout.BATCH_FIRST, Layout.TIME_FIRST
        return (second, first) if subject.sequences else (first, second)
    if subject.T is None:
        return (Layout.IMAGES,)
    if subject.sequences:
        return Layout.TIME_FIRST, Layout.BATCH_FIRST
    return Layout.STEPS, Layout.TIME_FIRST, Layout.BATCH_FIRST, Layout.TIME_LAST


def _takes_steps(subject: Runnable, images: Tensor) -> bool:
    """Whether the network runs on images with an axis of time, which `T` gives them."""
    frames = images.unsqueeze(1).expand(-1, 2, *images.shape[1:])
    for layout in (Layout.TIME_FIRST, Layout.BATCH_FIRST):
        with suppress(Exception), torch.no_grad():  # not made for it
            subject.raw(frames, layout)
            return True
    return False


class _Counter:
    """Counts the calls of spike functions."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self, call: Call) -> tuple[Any, None]:
        self.calls += 1
        return call.run(), None


def _attempt(subject: Runnable, images: Tensor, layout: Layout) -> Study:
    """The network shown images in one way.

    Raises:
        NotRead: If its outputs are no logits of each image.
        _Differs: If it answers the same images differently.
    """
    few = images[: BATCHES[1]]
    with torch.enable_grad():  # so that spike functions are in the graph
        leaf = few.clone().requires_grad_()
        stateful = subject.find_state(leaf, layout)
        for function in functions_of(tensors_of(subject.raw(leaf, layout))):
            open_function(function)
    outs, calls = [], []
    before = fingerprints(subject.net)
    with torch.no_grad():
        for batch in (images, few):
            counter = _Counter()
            with listening(counter):
                outs.append(_with_keys(subject, batch, layout))
            calls.append(counter.calls)
        drawn = fingerprints(subject.net) != before
        again = _with_keys(subject, few, layout)
        if not same(tensors_of(outs[1]), tensors_of(again)):
            raise _differs(drawn)
        if calls[0] != calls[1]:
            if drawn and not subject.stochastic:
                raise _differs(drawn)
            raise ImagesMix(
                "the number of its steps follows the number of images, or these influence each "
                "other"
            )
        reading = find_reading(
            (outs[0], outs[1]),
            BATCHES,
            membrane=subject.wants_membrane,
            steps=lambda: subject.T or spike_plan(subject, images, layout).loop,
        )
        together, alone = (reading.steps(out) for out in outs)
        if subject.T is not None and reading.time is not None and len(together) != subject.T:
            raise NotRead(f"it returns {len(together)} steps")  # of another axis
        if not subject.stochastic:
            moved = reading.steps(subject.raw(images.roll(1, 0), layout))  # every one of them
            axis = 0 if reading.time is None else 1
            pairs = [(together.roll(1, axis), moved), (together.narrow(axis, 0, len(few)), alone)]
            if (beside := _beside_others(subject, images, layout)) is not None:
                pairs.append((together.select(axis, 0), reading.steps(beside).select(axis, 0)))
            if not all(_alike(a, b) for a, b in pairs):
                if drawn:
                    raise _differs(drawn)
                raise ImagesMix(
                    "the logits of an image depend on its place in the batch, or on the images "
                    "beside it"
                )
        subject.in_pairs = subject.in_pairs or not _takes_one(subject, few, layout, reading)
    return Study(layout, reading, SpikePlan(), stateful)


def _takes_one(subject: Runnable, few: Tensor, layout: Layout, reading: Reading) -> bool:
    """Whether a single image gets logits like several: attacks go on with those that are left."""
    with suppress(Exception):
        return reading.steps(subject.raw(few[:1], layout)).shape[-2] == 1
    return False


def _beside_others(subject: Runnable, images: Tensor, layout: Layout) -> Any:
    """What the network returns for the first image beside white ones; None where it fails on such.

    Images at hand may be too much alike to show a norm over the batch.
    """
    try:
        return subject.raw(torch.cat([images[:1], torch.ones_like(images[1:])]), layout)
    except Exception as error:  # whatever a network does with images that are none
        _log.warning(
            "%s was not looked at beside white images, because it fails on them (%s): images that "
            "differ more than those at hand may still influence each other",
            subject.name,
            error,
        )
    return None


def _with_keys(subject: Runnable, x: Tensor, layout: Layout) -> Any:
    """What the network returns with the same random numbers every time, if its caller named them.

    What draws in spite of it cannot be repeated: no average over draws would have a gradient.
    """
    with keyed(sample_keys(0, torch.arange(len(x), device=x.device))):
        return subject.raw(x, layout)


def _differs(drawn: bool) -> _Differs:
    if drawn:
        return _Differs("it draws random numbers: say robust_snn.adapt(net, ..., random=True)")
    return _Differs(
        "it keeps a state outside of its modules, which its forward has to reset, or draws random "
        "numbers that follow from no seed: let them come from PyTorch"
    )


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether logits are equal, but for a spike here and there that rounding moves."""
    size = (a.abs().mean() + b.abs().mean()).item() / 2
    return a.shape == b.shape and not (a - b).abs().mean().item() > INFLUENCE * size + 1e-6


def _warn_of_other_outputs(subject: Runnable, images: Tensor, found: Study, loop: int) -> None:
    """Says so where a list that is read as time steps may be one of heads."""
    if not found.reading.stacked or loop < 2:
        return
    with torch.no_grad():
        steps = len(found.reading.steps(_with_keys(subject, images, found.layout)))
    if steps != loop:
        _log.warning(
            "%s returns a list of %d, which is read as its time steps, and its neurons run %d; if "
            "they are something else, say which one to read, as adapt(net, output=lambda out: "
            "out[0])",
            subject.name,
            steps,
            loop,
        )


def _refuse_own_steps(subject: Runnable, images: Tensor) -> None:
    """Refuses `T` for a network that shows an image to its neurons for several steps itself."""
    try:
        found = _attempt(subject, images, Layout.IMAGES)
    except Exception:  # not made for images alone, as expected
        return
    steps = _own_steps(subject, images, found)
    if steps > 1:
        raise InputError(
            f"{subject.name} runs {steps} time steps by itself; say robust_snn.adapt(net) without T"
        )


def _own_steps(subject: Runnable, images: Tensor, found: Study) -> int:
    """How many steps a network runs that is shown images alone; 0 if no neuron of it was found."""
    nodes = [node for node, _ in subject.nodes()]
    with counting_calls(nodes) as calls, torch.no_grad():
        out = found.reading.steps(subject.raw(images, Layout.IMAGES))
    with _Regained():
        plan = spike_plan(subject, images, Layout.IMAGES)
    stacked = len(out) if found.reading.time is not None else 0
    return max([stacked, plan.loop] if plan.neurons else [stacked, *calls])


def _refuse_one_step(subject: Runnable, images: Tensor, found: Study) -> None:
    """Refuses a network that runs a single time step and needs `T`."""
    nodes = subject.nodes()
    one_step = bool(nodes) and all(owner.takes_one_step(node) for node, owner in nodes)
    if not (one_step or (found.stateful and not nodes)) or found.layout is not Layout.IMAGES:
        return
    steps = _own_steps(subject, images, found)
    if steps == 0:
        _log.warning(
            "the time steps of %s could not be counted, since no neuron of it was found; if it "
            "runs one for a call, say robust_snn.adapt(net, T=...)",
            subject.name,
        )
    if steps == 1:
        raise InputError(
            f"{subject.name} runs a single time step: every neuron was called once "
            "for an image; say robust_snn.adapt(net, T=...) with its number of time steps"
        )
