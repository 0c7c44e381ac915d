"""Filters of camera noise, as a first stage of a network: `nn.Sequential(HotPixelFilter(3), net)`.

A filter drops events of `[B, T, C, H, W]` and changes no other. Gradients pass where an event would
stay, also in empty entries, so that attacks insert events which the filter lets through. That an
event changes what happens to others has no gradient; searches without gradients see it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole


class EventFilter(nn.Module, ABC):
    """Base of the filters; a subclass says which entries stay."""

    def forward(self, frames: Tensor) -> Tensor:
        """Event frames `[B, T, C, H, W]` without what the filter drops.

        Raises:
            InputError: If they have another shape.
        """
        if frames.dim() != 5:
            raise InputError(
                f"{type(self).__name__} filters event frames [B, T, C, H, W], "
                f"got {tuple(frames.shape)}"
            )
        with torch.no_grad():
            kept = self.kept(frames > 0)
        return frames * kept

    @abstractmethod
    def kept(self, events: Tensor) -> Tensor:
        """Whether an event in an entry stays, bool like `events`, `[B, T, C, H, W]`."""


class BackgroundActivityFilter(EventFilter):
    """Drops events that no neighbouring pixel supports (Delbruck, 2008).

    Args:
        steps: An event of one of the eight neighbours, of either polarity, in the same step or in
            one of so many before it is support.
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.steps = whole(steps, "steps", 0)

    def kept(self, events: Tensor) -> Tensor:
        active = events.any(2).float()  # [B, T, H, W]
        window = torch.ones(1, 1, 3, 3, device=active.device)
        window[0, 0, 1, 1] = 0
        beside = F.conv2d(active.flatten(0, 1)[:, None], window, padding=1)
        beside = beside.view(active.shape)
        support = beside.clone()
        for back in range(1, min(self.steps, active.shape[1] - 1) + 1):
            support[:, back:] += beside[:, :-back]
        return (support > 0)[:, :, None].expand_as(events)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class HotPixelFilter(EventFilter):
    """Silences pixels that are active in too many steps of a recording, as a mask does.

    Args:
        most: Steps in which a pixel may be active, in either polarity.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = whole(most, "most", 1)

    def kept(self, events: Tensor) -> Tensor:
        steps = events.any(2).sum(1)  # [B, H, W]
        return (steps <= self.most)[:, None, None].expand_as(events)

    def extra_repr(self) -> str:
        return f"most={self.most}"


class RefractoryFilter(EventFilter):
    """Drops events of a pixel that come too soon after one that passed.

    Args:
        steps: Steps in which a pixel rests, in either polarity.
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.steps = whole(steps, "steps", 1)

    def kept(self, events: Tensor) -> Tensor:
        active = events.any(2)
        rest = torch.zeros_like(active[:, 0], dtype=torch.long)
        free = []
        for step in active.unbind(1):
            free.append(rest == 0)
            rest = torch.where(step & (rest == 0), self.steps, (rest - 1).clamp(min=0))
        return torch.stack(free, 1)[:, :, None].expand_as(events)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
