"""Lists of events in place of frames: the first stage of a network that bins them itself.

A batch of lists is `[B, 4, E, 1]` in [0, 1], so that whatever takes images takes it: of each of `E`
events its time, column and row, as shares of the recording's duration and of the sensor, and its
kind: 0 for none, 1/2 for a pixel that became darker, 1 for one that became brighter.
`robust_snn.data.events.event_lists` makes them of recordings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole

PRESENT, BRIGHTER = 0.25, 0.75  # kinds above are events, and of pixels that became brighter


class EventBinning(nn.Module):
    """Bins lists of events into frames `[B, T, 2, H, W]`: `nn.Sequential(EventBinning(...), net)`.

    The frames are exact counts in steps of equal length. Their gradient is that of frames in which
    every event is shared out between the two steps whose middles are nearest, in proportion: so an
    event's time has a slope towards the one or the other, where a count has none. The gradient of
    a kind is that of the event's presence. Places have no gradient.

    Args:
        steps: Time steps `T`.
        height: Rows of the frames.
        width: Columns.
        binary: Whether an entry holds 1 where there was any event, and not 1/255 for each.
    """

    def __init__(self, steps: int, height: int, width: int, binary: bool = True) -> None:
        super().__init__()
        self.steps, self.height = whole(steps, "steps", 1), whole(height, "height", 1)
        self.width, self.binary = whole(width, "width", 1), binary

    def forward(self, events: Tensor) -> Tensor:
        """The frames of lists `[B, 4, E, 1]`.

        Raises:
            InputError: If they have another shape, or an event is nowhere or at no time.
        """
        check_event_lists(events, type(self).__name__)
        captured = events.is_cuda and torch.cuda.is_current_stream_capturing()
        if not captured and not events.isfinite().all():  # which would be counted in the first cell
            raise InputError(f"{type(self).__name__} got events with NaN or infinite numbers")
        time, column, row, kind = events[..., 0].unbind(1)
        with torch.no_grad():
            place = (kind > BRIGHTER) * self.height + _cell(row, self.height)
            place = place * self.width + _cell(column, self.width)
            present = (kind > PRESENT).to(events.dtype)
        here = present + kind - kind.detach()
        middle = time * self.steps - 0.5
        before = middle.detach().floor()
        share = middle - before
        shared = self._counts(before, place, here * (1 - share))
        shared = shared + self._counts(before + 1, place, here * share)
        counts = self._counts((time.detach() * self.steps).floor(), place, present)
        frames = counts.clamp(max=1) if self.binary else (counts / 255).clamp(max=1)
        return frames + (shared - shared.detach()) * (1 if self.binary else 1 / 255)

    def _counts(self, step: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        """Sums of weights `[B, E]` in the entries of frames."""
        step = step.long().clamp(0, self.steps - 1)
        entries = self.steps * 2 * self.height * self.width
        entry = step * (entries // self.steps) + place
        counts = weight.new_zeros(len(weight), entries).scatter_add(1, entry, weight)
        return counts.view(-1, self.steps, 2, self.height, self.width)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, height={self.height}, width={self.width}, binary={self.binary}"


def check_event_lists(events: Tensor, who: str) -> None:
    """Refuses what has not the shape of lists of events.

    Raises:
        InputError: Naming who needs them.
    """
    if events.ndim != 4 or events.shape[1] != 4 or events.shape[3] != 1:
        raise InputError(
            f"{who} needs lists of events [B, 4, E, 1], see robust_snn.data.events.event_lists; "
            f"got {tuple(events.shape)}"
        )


def _cell(share: Tensor, cells: int) -> Tensor:
    return (share * cells).floor().long().clamp(0, cells - 1)
