"""Patterns of events that need no gradient (DVS-Attacks, IJCNN 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.flips import BinaryFrameAttack, largest_of_recording
from robust_snn.attacks.problem import Problem
from robust_snn.utils.errors import unknown

FAR = 1e6  # rank of an entry that is outside of a pattern


@dataclass(frozen=True, kw_only=True)
class CameraPatterns(BinaryFrameAttack):
    """Adds `eps` events in a pattern that a camera might see (Marchisio et al., IJCNN 2021).

    - `"frame"`: along the border, in one step after the other;
    - `"corner"`: in the corners, growing from there;
    - `"dash"`: two neighbouring pixels that move along a line by one pixel in every step, which a
      filter of background activity takes for an object;
    - `"mask"`: the same by two pixels, so that no pixel fires often enough for a filter of hot
      pixels to mask it.

    Every try begins at random: in time, in place and with one of the polarities, or with all. The
    hardest is returned. Their sparse attack is `event-pgd` with `only=insertions`.

    Attributes:
        steps: Tries.
        pattern: One of the above.
    """

    name = "camera-patterns"
    pattern: str = "frame"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern not in PATTERNS:
            raise unknown(f"pattern of {self.name}", str(self.pattern), PATTERNS)

    def run(self, problem: Problem) -> None:
        clean, budget = problem.images, int(problem.eps)
        steps, channels, height, width = clean.shape[1:]
        axes = [torch.arange(n, device=clean.device) for n in (steps, height, width)]
        t, y, x = torch.meshgrid(*axes, indexing="ij")
        for step in range(self.steps):
            chance = problem.rng.uniform("pattern", problem.start, step).flatten(1)[:, :4]
            ends = torch.tensor([steps, height, width, channels + 1], device=clean.device)
            start = ((chance + 1) / 2 * ends).long()
            ranks = torch.stack([PATTERNS[self.pattern](t, y, x, one) for one in start.tolist()])
            polarity = torch.arange(channels, device=clean.device).view(1, 1, -1, 1, 1)
            chosen = start[:, 3].view(-1, 1, 1, 1, 1)  # every polarity where it is the last number
            on = (polarity == chosen) | (chosen == channels)
            use = (FAR - ranks[:, :, None]).clamp(min=0) * on * (1 - clean)
            problem.record(torch.where(largest_of_recording(use, budget), 1.0, clean))


def _frame(t: Tensor, y: Tensor, x: Tensor, start: list[int]) -> Tensor:
    """Rank of every entry in its pattern, `[T, H, W]`: the lower ones come first."""
    inside = (y > 0) & (y < y.max()) & (x > 0) & (x < x.max())
    return torch.where(inside, FAR, _since(t, start).double())


def _corner(t: Tensor, y: Tensor, x: Tensor, start: list[int]) -> Tensor:
    distance = torch.minimum(y, y.max() - y) + torch.minimum(x, x.max() - x)
    return (distance * len(t) + _since(t, start)).double()


def _dash(t: Tensor, y: Tensor, x: Tensor, start: list[int], stride: int = 1) -> Tensor:
    width = x.shape[2]
    ahead = (x - start[2] - stride * _since(t, start)) % width
    line = (y - start[1]) % y.shape[1]
    return torch.where(ahead < 2, (line * len(t) + _since(t, start)).double(), FAR)


def _mask(t: Tensor, y: Tensor, x: Tensor, start: list[int]) -> Tensor:
    return _dash(t, y, x, start, stride=2)


def _since(t: Tensor, start: list[int]) -> Tensor:
    return (t - start[0]) % len(t)


PATTERNS: dict[str, Callable[[Tensor, Tensor, Tensor, list[int]], Tensor]] = {
    "frame": _frame,
    "corner": _corner,
    "dash": _dash,
    "mask": _mask,
}
