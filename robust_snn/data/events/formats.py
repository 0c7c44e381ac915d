"""Readers of the event formats of the published sets: a file in, events in the order of time out.

Tonic's parsers do the work for N-MNIST and AEDAT 4. AEDAT 2 and 3.1 are read here, because those
of tonic 1.7 fail on every file, and earlier ones take packets of any type for polarity events and
forget the overflow of the clock.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robust_snn.data.events.frames import make_events
from robust_snn.utils.errors import InputError, missing_extra, reason_of

SPECIAL, CLOCK = 1 << 15, 1 << 32  # bit of AEDAT 2's special events, and where its clock wraps
POLARITY = 1  # type of AEDAT 3.1 packets that hold polarity events
EXACT = 1 << 53  # whole numbers that a float holds
BACK = 1_000_000  # microseconds; by less, events of one recording may be out of order
HEADER = struct.Struct("<HHIIIIII")  # type, source, size, offset, overflow, capacity, number, valid


def read_nmnist(path: Path) -> np.ndarray:
    """Reads N-MNIST's `.bin`: 40 bits per event."""
    from tonic.io import read_mnist_file

    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    raw = read_mnist_file(str(path), dtype)
    return make_events(raw["t"], raw["x"], raw["y"], raw["p"] == 1)


def read_aedat2(path: Path) -> np.ndarray:
    """Reads CIFAR10-DVS's `.aedat`: AEDAT 2.0 of a DVS128, oriented as by the authors' script.

    Special events, such as those of a synchronisation, are no pixels and left out.
    """
    content = np.memmap(path, np.uint8, "r")
    body = content[_after_comments(content, b"#!AER-DAT2") :]
    if len(body) % 8:
        raise ValueError(f"its {len(body)} bytes are no whole number of events")
    address, t = body.view(">u4").reshape(-1, 2).astype(np.int64).T
    jump = np.diff(t, prepend=t[:1])  # where the clock starts anew, events may be out of order
    t = t + ((jump < -CLOCK // 2).cumsum() - (jump > CLOCK // 2).cumsum()) * CLOCK
    t, address = t[address & SPECIAL == 0], address[address & SPECIAL == 0]
    if (address >= SPECIAL).any():
        raise ValueError("it has addresses of another camera than a DVS128")
    return make_events(t, 127 - (address >> 8 & 127), 127 - (address >> 1 & 127), address & 1 == 0)


def read_aedat3(path: Path) -> np.ndarray:
    """Reads DVS128 Gesture's `.aedat`: AEDAT 3.1, packets of a header and 64 bits per event."""
    content = np.memmap(path, np.uint8, "r")
    place, events = _after_comments(content, b"#!AER-DAT3"), []
    while place < len(content):
        kind, _, size, _, overflow, _, number, _ = HEADER.unpack_from(content.data, place)
        place += HEADER.size
        body = content[place : place + number * size]
        if size == 0 or len(body) < number * size:
            raise ValueError(f"a packet of {number} events is cut off")
        if kind == POLARITY:
            address, t = body.view("<u4").reshape(-1, size // 4)[:, :2].astype(np.int64).T
            valid = (address & 1) == 1
            t, x, y = t + (overflow << 31), address >> 17 & 0x7FFF, address >> 2 & 0x7FFF
            events.append(make_events(t, x, y, (address >> 1 & 1) == 1)[valid])
        place += number * size
    return np.concatenate(events) if events else make_events(*np.empty((4, 0)))


def read_aedat4(path: Path) -> np.ndarray:
    """Reads tonic's copy of CIFAR10-DVS: AEDAT 4."""
    from tonic.io import read_aedat4 as read

    raw = read(str(path))
    t, x, y, p = (raw[name] for name in raw.dtype.names)
    return make_events(t, x, y, p)


def read_gesture_array(path: Path) -> np.ndarray:
    """Reads tonic's copy of DVS128 Gesture: an array of columns x, y, polarity, milliseconds."""
    x, y, p, t = np.load(path, allow_pickle=False).T
    t = np.rint(np.multiply(t, 1000.0))  # 1.001 ms are 1001 microseconds
    if not (np.abs(t) < EXACT).all() or (x != np.rint(x)).any() or (y != np.rint(y)).any():
        raise ValueError("it has times or places that are no numbers of microseconds or pixels")
    return make_events(t, x, y, p > 0)


def read_events(reader: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    """Reads a file, and sorts its events by time where they are not.

    Raises:
        InputError: If it cannot be read.
        ImportError: If tonic is not installed.
    """
    try:
        events = reader(path)
    except ImportError as error:
        raise missing_extra("tonic", "events") from error
    except Exception as error:  # parsers raise anything on broken bytes
        why = reason_of(error, "; is it complete?")
        raise InputError(f"cannot read events from '{path}': {why}") from error
    back = -int(np.diff(events["t"]).min(initial=0))
    if back > BACK:
        raise InputError(
            f"the clock of '{path}' goes back by {back / 1e6:g} s, so the order of its "
            "events is not known; make it a file for each part"
        )
    if back:
        events = events[np.argsort(events["t"], kind="stable")]
    return events


def _after_comments(content: np.ndarray, begin: bytes) -> int:
    """Where an AEDAT file's lines of text end: each begins with `#`."""
    head = content[: 1 << 16].tobytes()
    if not head.startswith(begin):
        raise ValueError(f"it does not begin with {begin.decode()}")
    end = 0
    while head.startswith(b"#", end):
        if (stop := head.find(b"\n", end)) < 0:
            raise ValueError("its header does not end")
        line, end = head[end:stop], stop + 1
        if line.startswith(b"#Format:") and b"RAW" not in line:
            raise ValueError(f"events are not stored as they are: {line.decode(errors='replace')}")
        if line.startswith(b"#!END-HEADER"):
            break
    return end
