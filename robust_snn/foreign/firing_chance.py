"""Recognising a function that fires by chance: how likely it fires, measured at given membranes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.staircase import OFF_ROUND, Staircase, call_in_double, membranes_of

WIDE_POINTS, WIDE_DRAWS = 257, 256
POINTS, DRAWS = 129, 2048
NEVER, ALWAYS = 0.05, 0.95  # of the draws, by which a membrane far from the threshold fires
MIDDLE = (0.2, 0.8)  # chances between which it is near a straight line
REVERSED = 0.2  # by which a measured chance may fall where the membrane rises
FAR = 8.0  # ranges of the membrane, in which its threshold is looked for


@torch.no_grad()
def find_chance(
    function: Callable[..., Any], arguments: Sequence[Any], out: Any
) -> Staircase | None:
    """The step at the membrane that fires in half of all draws; None if there is none.

    Args:
        function: What was called, without side effects.
        arguments: What it was called with.
        out: What came back.
    """
    levels = out.detach().double().unique().tolist()
    if len(levels) != 2:
        return None
    for place in membranes_of(arguments, out):
        rest = [v for i, v in enumerate(arguments) if i != place and isinstance(v, Tensor)]
        if any(value.numel() > 1 for value in rest):
            continue
        with own_random_numbers(out.device):
            edge = _median(_measure(function, arguments, place, levels), arguments[place])
        if edge is not None:
            return Staircase(place, None, (edge,), (levels[0], levels[1]), chance=True)
    return None


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Random numbers are the same inside every time, and those of the network stay as they are."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


Chance = Callable[[Tensor, int], Tensor | None]  # membranes and draws to how often each fires


def _measure(
    function: Callable[..., Any], arguments: Sequence[Any], place: int, levels: Sequence[float]
) -> Chance:
    def chance(points: Tensor, draws: int) -> Tensor | None:
        grid = points[:, None].expand(-1, draws).contiguous()
        answers = call_in_double(function, arguments, place, grid)
        if answers is None or not torch.isin(answers, answers.new_tensor(levels)).all():
            return None
        return (answers.view_as(grid) == levels[1]).double().mean(1)

    return chance


def _median(chance: Chance, membrane: Tensor) -> float | None:
    low, high = membrane.min().item(), membrane.max().item()
    reach = FAR * max(1.0, high - low)
    line = partial(torch.linspace, dtype=torch.float64, device=membrane.device)
    wide = line(low - reach, high + reach, WIDE_POINTS)
    found = chance(wide + OFF_ROUND, WIDE_DRAWS)
    if found is None or found[0] > NEVER or found[-1] < ALWAYS or _falls(found):
        return None
    if not ((found > 0) & (found < 1)).any():
        return None  # a step, of which the spikes at hand are none: more decides on them
    first = (found > NEVER).nonzero()[0, 0].item() - 1
    last = (found < ALWAYS).nonzero()[-1, 0].item() + 1
    grid = line(wide[int(first)].item(), wide[int(last)].item(), POINTS)
    found = chance(grid, DRAWS)
    if found is None or _falls(found):
        return None
    near = (found > MIDDLE[0]) & (found < MIDDLE[1])
    if near.sum() < 3:  # a step, but for a few draws
        return float(grid[(found - 0.5).abs().argmin()])
    x, y = grid[near], found[near] - 0.5
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    digits = round(-torch.log10(0.02 / slope).item())
    return round(float(x.mean() - y.mean() / slope), max(0, digits)) + 0.0  # never -0


def _falls(chances: Tensor) -> bool:
    return bool((chances.cummax(0).values - chances).max() > REVERSED)
