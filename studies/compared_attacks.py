"""What attacks of the same threat leave and cost: rows of tables, for the studies of threats.

Cost is in passes of single images through the network, and in seconds of processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor

from robust_snn import Victim
from robust_snn.eval.scoring.intervals import accuracy_estimate
from robust_snn.victim import correct
from robust_snn.victim.averaged_draws import Cost

DRAWS = 20  # fresh ones, by which images of a noisy network are judged


class Compared(NamedTuple):
    """What an attack made of some images.

    Attributes:
        images: What it made, `[B, ...]`.
        cost: What that cost.
        seconds: Of processor time.
    """

    images: Tensor
    cost: Cost
    seconds: float


def packaged(name: str) -> Victim:
    """A network of the package with its trained weights."""
    torch.manual_seed(0)
    return Victim(timm.create_model(name, pretrained=True).eval())


def timed(victim: Victim, attack: Callable[[Victim], Tensor]) -> Compared:
    """Runs an attack on a view of the victim with a cost of its own."""
    view = victim.replace(cost=Cost())
    start = time.process_time()
    images = attack(view)
    return Compared(images, view.cost, time.process_time() - start)


def total(runs: list[Compared]) -> Compared:
    """The last images of several runs, with the passes of all and the mean time."""
    costs = [run.cost for run in runs]
    cost = Cost(sum(c.forwards for c in costs), sum(c.backwards for c in costs))
    return Compared(runs[-1].images, cost, sum(run.seconds for run in runs) / len(runs))


def judged(victim: Victim, images: Tensor, labels: Tensor) -> np.ndarray:
    """Whether every image is right under each fresh draw, `[B, draws]`."""
    return correct(victim, images, labels, draws=DRAWS).numpy()


def percent(right: np.ndarray) -> str:
    """A share of right answers `[B, draws]` with its 95 % interval."""
    value, (low, high) = accuracy_estimate(right)
    return f"{value:.1%} ({low * 100:.1f}-{high * 100:.1f})"


def row(name: str, right: np.ndarray, compared: Compared, images: int) -> str:
    """A line of a table: what is left, gradients and passes for each of so many images, seconds."""
    _, cost, seconds = compared
    spent = f"{cost.backwards / images:,.0f} | {cost.forwards / images:,.0f} | {seconds:,.0f}"
    return f"| {name} | {percent(right)} | {spent} |"
