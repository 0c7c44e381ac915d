"""What is studied: a network, how it may be shown images, and its spike functions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from robust_snn.foreign.interception import exchange_kept_apply, functions_of, open_function
from robust_snn.foreign.library import Library
from robust_snn.foreign.outputs import Reading
from robust_snn.foreign.spike_plan import SpikePlan
from robust_snn.foreign.survey import survey, tensors_of

SURVEYED = 16  # images at most, and pixels, on which spike functions are looked for
PIXELS = 400_000


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

    return survey(subject.net, run, surveyed(x))


def surveyed(x: Tensor) -> Tensor:
    """The images on which spike functions are looked for."""
    return x[: max(1, min(SURVEYED, PIXELS // max(1, x[0].numel())))]


def open_functions(subject: Runnable, x: Tensor, found: Study) -> None:
    """Lets spike passes listen to the functions of a network that another process has studied."""
    with torch.enable_grad():
        leaf = x[:1].detach().clone().requires_grad_()
        for function in functions_of(tensors_of(subject.raw(leaf, found.layout))):
            open_function(function)
    for name in found.plan.unwrapped:
        exchange_kept_apply(name)
