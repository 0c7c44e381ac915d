"""Recordings as lists of events in one tensor, for networks that bin them themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.events.frames import check_inside
from robust_snn.utils.errors import InputError

LONGEST = 1 << 22  # microseconds that float32 tells apart


def event_lists(recordings: Sequence[np.ndarray], sensor: tuple[int, int]) -> Tensor:
    """Lists `[B, 4, E, 1]` of time, column, row and kind in [0, 1], for `neurons.EventBinning`.

    Every number is the middle of its microsecond or pixel. So events fall into the steps and
    entries that `to_frames` counts them in by time, but for those within half a microsecond of the
    edge of a step. Shorter recordings end in events of kind 0, which are none.

    Args:
        recordings: Arrays of `EVENT_DTYPE`.
        sensor: Height and width of the sensor.

    Raises:
        InputError: If an event lies outside the sensor, or a recording is too long for float32.
    """
    lists = np.zeros((len(recordings), 4, max(map(len, recordings), default=0), 1), np.float32)
    for one, events in zip(lists[..., 0], recordings, strict=True):
        if not len(events):
            continue
        first = int(events["t"].min())
        duration = int(events["t"].max()) - first + 1
        if duration > LONGEST:
            raise InputError(
                f"a recording takes {duration} microseconds, and lists tell those of up to "
                f"{LONGEST} apart; cut it, or use to_frames"
            )
        check_inside(events["x"], events["y"], sensor)
        one[0, : len(events)] = (events["t"] - first + 0.5) / duration
        one[1, : len(events)] = (events["x"] + 0.5) / sensor[1]
        one[2, : len(events)] = (events["y"] + 0.5) / sensor[0]
        one[3, : len(events)] = (events["p"] + 1.0) / 2
    return torch.from_numpy(lists)
