"""From events to frames: counts per time bin, polarity and pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from robust_snn.utils.errors import InputError, unknown

# one event: time in microseconds, column, row, and whether the pixel became brighter
EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")])
BINNINGS = ("time", "count")
LONGEST = 1 << 62  # microseconds times steps
MOST = 1 << 15  # rows or columns
CHUNK = 1 << 19  # events handled together, so that memory does not grow with a recording


def make_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Events `[N]` of type `EVENT_DTYPE` from their columns, in the given order.

    Raises:
        ValueError: If a place is none of any sensor.
    """
    for values in (x, y):
        if len(values) and not (abs(int(values.min())) < MOST and abs(int(values.max())) < MOST):
            far = max(map(int, (values.min(), values.max())), key=abs)
            raise ValueError(f"an event in row or column {far}, which no sensor has")
    events = np.empty(len(t), EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def to_frames(
    events: np.ndarray,
    steps: int,
    sensor: tuple[int, int],
    size: int | None = None,
    by: Literal["time", "count"] = "time",
) -> np.ndarray:
    """Counts events in bins; every event is counted once.

    The array may be a memory map: it is read in chunks, and only the frames stay in memory.

    Args:
        events: Events `[N]` with the fields of `EVENT_DTYPE`;
            for `by="count"` in the order of time.
        steps: Time bins `T`.
        sensor: Height and width of the sensor.
        size: Height and width of the frames; pixel `(y, x)` of the sensor belongs to pixel
            `(y size // height, x size // width)`. As the sensor if left out.
        by: Bins of equal duration from the first to the last event (`"time"`), or of equally many
            events, up to one (`"count"`).

    Returns:
        Counts `[T, 2, H, W]`, int64; channel 1 holds the events that became brighter.

    Raises:
        InputError: If an event lies outside the sensor, or an argument is wrong.
    """
    if by not in BINNINGS:
        raise unknown("binning of events", by, BINNINGS)
    if steps < 1:
        raise InputError(f"steps of event frames must be at least 1, got {steps}")
    height, width = sensor if size is None else (size, size)
    if not (1 <= height <= sensor[0] and 1 <= width <= sensor[1]):
        raise InputError(
            f"event frames of {height}x{width} cannot come from a sensor of "
            f"{sensor[0]}x{sensor[1]}; choose a size of at least 1 and at most that"
        )
    cells = steps * 2 * height * width
    counts = np.zeros(cells, np.int64)
    first, duration = _span(events) if by == "time" else (0, len(events))
    if duration * steps > LONGEST:
        raise InputError(f"events take {duration} microseconds from first to last; is it damaged?")
    for start, part in _chunks(events):
        x, y = part["x"].astype(np.int64), part["y"].astype(np.int64)
        check_inside(x, y, sensor)
        clock = part["t"] - first if by == "time" else np.arange(start, start + len(part))
        place = clock * steps // duration * 2 + part["p"]
        place = place * height + y * height // sensor[0]
        place = place * width + x * width // sensor[1]
        counts += np.bincount(place, minlength=cells)
    return counts.reshape(steps, 2, height, width)


def as_pixels(counts: np.ndarray, binary: bool) -> np.ndarray:
    """Counts in bytes as model input in [0, 1], float32: 1/255 per event, or 1 for any event."""
    return (counts > 0).astype(np.float32) if binary else counts.astype(np.float32) / 255


def _chunks(events: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(events), CHUNK):
        yield start, np.array(events[start : start + CHUNK])


def _span(events: np.ndarray) -> tuple[int, int]:
    """Time of the first event, and the time up to just after the last."""
    if not len(events):
        return 0, 1
    lows, highs = zip(*((p["t"].min(), p["t"].max()) for _, p in _chunks(events)), strict=True)
    return int(min(lows)), int(max(highs)) - int(min(lows)) + 1


def check_inside(x: np.ndarray, y: np.ndarray, sensor: tuple[int, int]) -> None:
    """Refuses events outside the sensor, of height and width.

    Raises:
        InputError: With what came.
    """
    for name, values, length in (("row", y, sensor[0]), ("column", x, sensor[1])):
        low, high = values.min(), values.max()
        if low < 0 or high >= length:
            raise InputError(
                f"events must lie in {name}s 0..{length - 1} of the sensor, got {low} to {high}; "
                "is the file complete, and of this data set?"
            )
