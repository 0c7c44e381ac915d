"""Losses that change in the course of a run: what is climbed early does not count at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

GAMA_WEIGHT, GAMA_UNTIL = 50.0, 0.25  # of the distance from the clean answer, gone by then
MD_UNTIL = 0.5


class Moment(NamedTuple):
    """Where a run is.

    Attributes:
        progress: Share of its steps that is done, in [0, 1].
        start: Number of the start.
        clean: Logits of the clean images, `[R, K]`.
    """

    progress: float
    start: int
    clean: Tensor


Schedule = Callable[[Tensor, Tensor, Tensor, Moment], Tensor]


def gama(loss: Tensor, logits: Tensor, labels: Tensor, moment: Moment) -> Tensor:
    """Guided by the distance from the clean answer (GAMA, Sriramanan et al., NeurIPS 2020), `[R]`.

    The squared distance of the probabilities, whose weight of 50 sinks to 0 in a quarter of the
    run, is added to the probability margin.
    """
    weight = GAMA_WEIGHT * max(0.0, 1 - moment.progress / GAMA_UNTIL)
    moved = torch.softmax(logits, 1) - torch.softmax(moment.clean, 1)
    return loss + weight * moved.square().sum(1)


def margin_decomposition(loss: Tensor, logits: Tensor, labels: Tensor, moment: Moment) -> Tensor:
    """One logit of the margin alone in the first half of a run (MD, Ma et al., 2020), `[R]`.

    Starts take turns: the label's logit sinks, or the best other one rises. The gradient of one can
    hide that of the other. Then the margin follows.
    """
    if moment.progress >= MD_UNTIL:
        return loss
    if moment.start % 2 == 0:
        return -logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1)


# by the name of the loss: what is climbed, from that loss itself and the moment
SCHEDULES: dict[str, Schedule] = {"gama": gama, "md": margin_decomposition}
