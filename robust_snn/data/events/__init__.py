"""Event cameras: published sets, an embedded one, and frames of both."""

from __future__ import annotations

from robust_snn.data.events.event_augment import augment_events
from robust_snn.data.events.event_lists import event_lists
from robust_snn.data.events.event_sets import EVENT_SETS, MIRRORED, load_events
from robust_snn.data.events.frames import EVENT_DTYPE, make_events, to_frames
from robust_snn.data.events.recorded_digits import record_digits

__all__ = [
    "EVENT_DTYPE",
    "EVENT_SETS",
    "MIRRORED",
    "augment_events",
    "event_lists",
    "load_events",
    "make_events",
    "record_digits",
    "to_frames",
]
