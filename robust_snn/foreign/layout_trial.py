"""Whether a network that is shown images in one way gives every image logits of its own.

It is run on two batches of different sizes, on the same images twice, and on images in other places
and beside others.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.hidden_state import same
from robust_snn.foreign.interception import Call, functions_of, listening, open_function
from robust_snn.foreign.outputs import NotRead, Reading, find_reading
from robust_snn.foreign.random_sources import fingerprints
from robust_snn.foreign.runnable import Layout, Runnable, Study, spike_plan
from robust_snn.foreign.spike_plan import SpikePlan
from robust_snn.foreign.survey import tensors_of
from robust_snn.kernels import sample_keys
from robust_snn.neurons.pass_settings import keyed

BATCHES = (3, 2)  # sizes of the batches that tell the axes of an output apart
INFLUENCE = 0.05  # of the logits, which another place in the batch may change by rounding
ROUNDING = 1e-4  # of them, where images that are run one by one may influence each other

_log = logging.getLogger("robust_snn")


class ImagesMix(NotRead):
    """The logits of an image depend on the images beside it."""


class Differs(Exception):
    """A network answers the same images differently, and why that may be."""


class _Counter:
    """Counts the calls of spike functions."""

    unwrapped = ()

    def __init__(self) -> None:
        self.calls = 0

    def call(self, call: Call) -> tuple[Any, None]:
        self.calls += 1
        return call.run(), None


def try_layout(subject: Runnable, images: Tensor, layout: Layout) -> Study:
    """The network shown images in one way.

    Raises:
        NotRead: If its outputs are no logits of each image.
        Differs: If it answers the same images differently.
    """
    few = images[: BATCHES[1]]
    with torch.enable_grad():  # so that spike functions are in the graph
        leaf = few.clone().requires_grad_()
        stateful = subject.find_state(leaf, layout)
        for function in functions_of(tensors_of(subject.raw(leaf, layout))):
            open_function(function)
    before = fingerprints(subject.net)
    with torch.no_grad():
        out, calls = _counted(subject, images, layout)
        out_of_few, calls_of_few = _counted(subject, few, layout)
        drawn = fingerprints(subject.net) != before
        again = with_keys(subject, few, layout)
        other_calls = calls != calls_of_few
        repeats = same(tensors_of(out_of_few), tensors_of(again))
        if not repeats or (other_calls and drawn and not subject.stochastic):
            raise _differs(drawn)
        if other_calls and (subject.stochastic or layout is not Layout.IMAGES):
            raise ImagesMix(
                "the number of its steps follows the number of images, or these influence each "
                "other"
            )
        reading = find_reading(
            (out, out_of_few),
            BATCHES,
            membrane=subject.wants_membrane,
            steps=lambda: subject.T or spike_plan(subject, images, layout).loop,
        )
        together, alone = reading.steps(out), reading.steps(out_of_few)
        if subject.T is not None and reading.time is not None and len(together) != subject.T:
            raise NotRead(f"it returns {len(together)} steps")  # of another axis
        if not subject.stochastic:
            influence = ROUNDING if other_calls else INFLUENCE
            pairs = _logits_to_compare(subject, images, layout, reading, together, alone)
            if not all(_alike(a, b, influence) for a, b in pairs):
                if drawn:
                    raise _differs(drawn)
                raise ImagesMix(
                    "the logits of an image depend on its place in the batch, or on the images "
                    "beside it"
                )
        subject.in_pairs = subject.in_pairs or not _takes_one(subject, few, layout, reading)
    return Study(layout, reading, SpikePlan(), stateful)


def _counted(subject: Runnable, batch: Tensor, layout: Layout) -> tuple[Any, int]:
    """What the network returns for a batch, and how often it called spike functions."""
    counter = _Counter()
    with listening(counter):
        return with_keys(subject, batch, layout), counter.calls


def _takes_one(subject: Runnable, few: Tensor, layout: Layout, reading: Reading) -> bool:
    """Whether a single image gets logits like several: attacks go on with those that are left."""
    with suppress(Exception):
        return reading.steps(subject.raw(few[:1], layout)).shape[-2] == 1
    return False


def _logits_to_compare(
    subject: Runnable,
    images: Tensor,
    layout: Layout,
    reading: Reading,
    together: Tensor,
    alone: Tensor,
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of logits that are equal where no image influences another.

    Args:
        together: Logits of all images as `reading` reads them, `[B, K]` or `[T, B, K]`.
        alone: Those of the first few without the others.
    """
    axis = 0 if reading.time is None else 1
    moved = reading.steps(subject.raw(images.roll(1, 0), layout))  # every image
    beside = [
        reading.steps(other).select(axis, 0) for other in _beside_others(subject, images, layout)
    ]
    first = together.narrow(axis, 0, alone.shape[axis])
    return [(together.roll(1, axis), moved), (first, alone), *pairwise(beside)]


def _beside_others(subject: Runnable, images: Tensor, layout: Layout) -> list[Any]:
    """What the network returns for an image beside itself, white ones and black ones.

    Images at hand may be too much alike to show a norm over the batch, and too rich in contrast to
    show that they are stretched by what is brightest in it. None at all where it fails on these.
    """
    grey = (1 + images[:1]) / 4
    try:
        return [
            subject.raw(torch.cat([grey, other.expand_as(images[1:])]), layout)
            for other in (grey, torch.ones_like(grey), torch.zeros_like(grey))
        ]
    except Exception as error:  # whatever a network does with images that are none
        _log.warning(
            "%s was not looked at beside white and black images, because it fails on them (%s): "
            "images that differ more than those at hand may still influence each other",
            subject.name,
            error,
        )
    return []


def with_keys(subject: Runnable, x: Tensor, layout: Layout) -> Any:
    """What the network returns with the same random numbers every time, if its caller named them.

    What draws in spite of it cannot be repeated: no average over draws would have a gradient.
    """
    with keyed(sample_keys(0, torch.arange(len(x), device=x.device))):
        return subject.raw(x, layout)


def _differs(drawn: bool) -> Differs:
    if drawn:
        return Differs("it draws random numbers: say robust_snn.adapt(net, ..., random=True)")
    return Differs(
        "it keeps a state outside of its modules, which its forward has to reset, or draws random "
        "numbers that follow from no seed: let them come from PyTorch"
    )


def _alike(a: Tensor, b: Tensor, influence: float) -> bool:
    """Whether logits are equal, but for a spike here and there that rounding moves."""
    size = (a.abs().mean() + b.abs().mean()).item() / 2
    return a.shape == b.shape and not (a - b).abs().mean().item() > influence * size + 1e-6
