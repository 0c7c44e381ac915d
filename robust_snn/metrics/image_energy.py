"""What every image costs, step by step until the network stops, as a measure and as a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.metrics.activity import Activity, record
from robust_snn.metrics.energy import (
    MAC_PICOJOULES,
    SOP_PICOJOULES,
    events_of,
    fan_of,
    is_static,
)
from robust_snn.models.early_exit import EarlyExit
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

FORMULA = (
    f"{MAC_PICOJOULES} pJ per multiplication and {SOP_PICOJOULES} pJ per spike operation, in all "
    "steps up to the exit; layers multiply as often as they run, those of our networks that see a "
    "static image in each step"
)


class ImageCosts(NamedTuple):
    """Costs of images in one draw: picojoules `[B]`, spike operations `[B]`, steps read `[B]`."""

    picojoules: Tensor
    spike_operations: Tensor
    steps: Tensor


class CostRecord:
    """Costs of the last pass; the gradient of `expected` reaches the images.

    Attributes:
        activity: What the pass recorded.
    """

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.logits: Tensor | None = None
        self.exit: EarlyExit | None = None

    def costs(self, batch: int) -> ImageCosts:
        """What the images cost, up to the step at which each was answered."""
        joules, sops = self._of_steps(batch)
        steps = torch.full((batch,), len(joules), device=joules.device)
        if self.exit is not None and self.logits is not None:
            steps = self.exit.steps(self.logits)
        read = torch.arange(len(joules), device=joules.device)[:, None] < steps
        return ImageCosts((joules * read).sum(0), (sops * read).sum(0), steps)

    def expected(self, batch: int) -> Tensor:
        """Picojoules with a soft exit, `[B]`."""
        joules, _ = self._of_steps(batch)
        if self.exit is not None and self.logits is not None:
            stops = self.exit.chances(self.logits)
            joules = joules * stops.flip(0).cumsum(0).flip(0)  # the chance that a step is read
        return joules.sum(0)

    def sureness(self) -> Tensor | None:
        """How sure images are where they stop early, `[B]`; None without an exit.

        The soft exit of `expected` has next to no slope where a network is very sure; this has one.
        """
        if self.exit is None or self.logits is None:
            return None
        return self.exit.log_odds(self.logits)

    def _of_steps(self, batch: int) -> tuple[Tensor, Tensor]:
        """Picojoules and spike operations of every step, float `[T, B]`.

        Raises:
            InputError: If layers got other batches than these images, and which is which is not
                known.
        """
        if self.activity.regrouped and batch > 1:
            raise InputError(
                "layers of the network get other batches than its images (flips, crops, or one "
                "image at a time), so that what an image costs is known of single images alone"
            )
        steps = len(self.activity.last.spikes)
        first = self.activity.last.spikes
        joules = torch.zeros(steps, batch, device=first.device)
        sops = torch.zeros_like(joules)
        for synapse in self.activity.synapses.values():
            fan = fan_of(synapse)
            events, spiking = events_of(synapse, batch)
            each = (events * fan).flatten(2).sum(2) * spiking
            each = each if len(each) == steps else (each.sum(0) / steps).expand(steps, batch)
            often = len(events) / (1 if is_static(synapse) else steps)
            multiplied = MAC_PICOJOULES * float(fan.sum()) * often
            sops, joules = sops + each, joules + SOP_PICOJOULES * each + multiplied * ~spiking
        return joules, sops


@contextmanager
def recorded_costs(victim: Victim, images: int) -> Iterator[CostRecord]:
    """Records the costs of passes of a victim over so many images, whose last one counts.

    Raises:
        InputError: If no spiking layer that is known here ran.
    """
    with record(victim, images) as activity:
        found = CostRecord(activity)
        hooks = []
        for module in victim.net.modules():
            if isinstance(module, EarlyExit):
                hooks.append(module.register_forward_pre_hook(_noted(found)))
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()


def _noted(found: CostRecord) -> Callable[[EarlyExit, tuple[Tensor]], None]:
    def note(module: EarlyExit, args: tuple[Tensor]) -> None:
        found.exit, found.logits = module, args[0]

    return note


@torch.no_grad()
def image_costs(
    victim: Victim, images: Tensor, ids: Tensor, draw: int = 0, purpose: str = "report"
) -> ImageCosts:
    """What every image costs in one draw of the plain network.

    Args:
        victim: The victim, in eval mode.
        images: `[B, C, H, W]` or event frames, where the network is.
        ids: Index of every image in the evaluated set, `[B]`.
        draw: Number of the draw.
        purpose: Name of the stream of draws.

    Raises:
        InputError: If the network has no spiking layers that are known here.
    """
    found = _recorded(victim, images, ids, draw, purpose)
    if found.activity.regrouped and len(images) > 1:
        pairs = zip(images.split(1), ids.split(1), strict=True)
        single = [image_costs(victim, image, one, draw, purpose) for image, one in pairs]
        return ImageCosts(*map(torch.cat, zip(*single, strict=True)))
    return found.costs(len(images))


@torch.no_grad()
def formula_of(victim: Victim, image: Tensor) -> str:
    """How joules follow from operations, and what of the network they leave out.

    Args:
        victim: The victim.
        image: An image of it, `[1, ...]`.
    """
    found = _recorded(victim, image, torch.arange(1, device=image.device))
    if not (names := sorted(found.activity.uncounted)):
        return FORMULA
    return f"{FORMULA}; products that no layer makes ({', '.join(names)}) are not counted"


@torch.no_grad()
def refuse_unknown_costs(victim: Victim, image: Tensor) -> None:
    """Refuses a network whose costs an attack could not follow, on an image `[1, ...]`.

    Raises:
        InputError: If no spiking layer that is known here runs, or layers get other batches than
            the network.
    """
    pair = torch.cat([image, image])
    _recorded(victim, pair, torch.arange(2, device=image.device)).costs(2)


def _recorded(
    victim: Victim, images: Tensor, ids: Tensor, draw: int = 0, purpose: str = "report"
) -> CostRecord:
    with recorded_costs(victim, len(images)) as found:
        victim.sample(images, ids, draw, purpose)
    if not found.activity.layers:
        raise InputError("no spiking layer that is known here ran, so its energy is not known")
    return found
