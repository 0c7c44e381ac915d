"""Event sets: frames that lose no event, files in every published format, sound caches."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from one_epoch import check_training
from robust_snn.data import augment_events, load_dataset
from robust_snn.data.events import (
    EVENT_DTYPE,
    frame_cache,
    frames,
    make_events,
    record_digits,
    to_frames,
)
from robust_snn.data.events import event_sets as load
from robust_snn.data.events.formats import (
    read_aedat2,
    read_aedat3,
    read_aedat4,
    read_events,
    read_gesture_array,
    read_nmnist,
)
from robust_snn.data.events.published_event_sets import CIFAR, EVENT_FILES
from robust_snn.data.events.recorded_digits import _crossings
from robust_snn.utils.errors import InputError


def random_events(n: int, side: int, seed: int = 0, duration: int = 300_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, duration, n))
    return make_events(t, *rng.integers(0, side, (2, n)), rng.integers(0, 2, n) == 1)


def write_nmnist(path: Path, events: np.ndarray) -> None:
    """40 bits per event; row 240 marks an overflow of the 13 lower bits of the clock."""
    raw, wraps = bytearray(), 0
    for t, x, y, p in events.tolist():
        while t - wraps * 2**13 >= 2**13:
            raw += bytes((0, 240, 0, 0, 0))
            wraps += 1
        rest = t - wraps * 2**13
        raw += bytes((x, y, p << 7 | rest >> 16, rest >> 8 & 255, rest & 255))
    path.write_bytes(raw)


def write_aedat2(path: Path, events: np.ndarray) -> None:
    x, y, p = 127 - events["x"].astype(int), 127 - events["y"].astype(int), ~events["p"]
    words = np.stack([x << 8 | y << 1 | p, events["t"]], 1).astype(">u4")
    path.write_bytes(b"#!AER-DAT2.0\r\n# made for a test\r\n" + words.tobytes())


def write_aedat3(path: Path, events: np.ndarray) -> None:
    """Two packets of polarity events around one of special events, the second after an overflow."""
    late = events["t"] >= 2**31
    raw = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for overflow, part in ((0, events[~late]), (1, events[late])):
        address = part["x"].astype("<u4") << 17 | part["y"].astype("<u4") << 2
        address |= part["p"].astype("<u4") << 1 | 1
        body = np.stack([address, (part["t"] - overflow * 2**31).astype("<u4")], 1).astype("<u4")
        header = (1, 0, 8, 4, overflow, len(part), len(part), len(part))
        raw += struct.pack("<HHIIIIII", *header) + body.tobytes()
        raw += struct.pack("<HHIIIIII", 0, 0, 8, 4, 0, 1, 1, 1) + struct.pack("<II", 7, 9)
    path.write_bytes(raw)


def write_aedat4(path: Path, events: np.ndarray) -> None:
    faery = pytest.importorskip("faery")
    out = np.empty(len(events), faery.EVENTS_DTYPE)
    for name in "txyp":
        out[name] = events[name]
    faery.events_stream_from_array(out, (128, 128)).to_file(path)


def write_gesture_array(path: Path, events: np.ndarray) -> None:
    columns = [events["x"], events["y"], events["p"], events["t"] // 1000]
    np.save(path, np.stack(columns, 1).astype(np.int64))


def in_milliseconds(events: np.ndarray) -> np.ndarray:
    events["t"] -= events["t"] % 1000
    return events


def with_overflow(events: np.ndarray) -> np.ndarray:
    events["t"][len(events) // 2 :] += 2**31
    return events


def same(events: np.ndarray) -> np.ndarray:
    return events


Writer = Callable[[Path, np.ndarray], None]
FORMATS: dict[str, tuple[Writer, Callable, int, Callable]] = {
    ".bin": (write_nmnist, read_nmnist, 34, same),
    ".aedat": (write_aedat2, read_aedat2, 128, same),
    "3.aedat": (write_aedat3, read_aedat3, 128, with_overflow),
    ".aedat4": (write_aedat4, read_aedat4, 128, same),
    ".npy": (write_gesture_array, read_gesture_array, 128, in_milliseconds),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_round_trips(suffix: str, tmp_path: Path) -> None:
    if suffix in (".bin", ".aedat4"):
        pytest.importorskip("tonic")
    write, read, side, prepare = FORMATS[suffix]
    events = prepare(random_events(700, side))
    write(tmp_path / f"0{suffix}", events)
    found = read_events(read, tmp_path / f"0{suffix}")
    assert found.dtype == EVENT_DTYPE
    assert np.array_equal(found, events)


@pytest.mark.parametrize("suffix", ["3.aedat", ".npy", ".aedat4"])
def test_torn_files_are_refused_by_name(suffix: str, tmp_path: Path) -> None:
    write, read, side, _ = FORMATS[suffix]
    path = tmp_path / f"0{suffix}"
    write(path, random_events(700, side))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"cannot read events from .*0{suffix}"):
        read_events(read, path)


def test_events_out_of_order_are_sorted(tmp_path: Path) -> None:
    events = random_events(50, 128)[::-1]
    write_aedat3(tmp_path / "0.aedat", events)
    assert (np.diff(read_events(read_aedat3, tmp_path / "0.aedat")["t"]) >= 0).all()


@pytest.mark.parametrize("by", ["time", "count"])
@pytest.mark.parametrize("size", [None, 48, 128, 1])
@pytest.mark.parametrize("n", [0, 1, 7, 5000])
def test_frames_lose_no_event(by: str, size: int | None, n: int) -> None:
    counts = to_frames(random_events(n, 128), 10, (128, 128), size, by)
    assert counts.shape == (10, 2, size or 128, size or 128)
    assert counts.sum() == n


def test_frames_of_known_events() -> None:
    columns = [0, 10, 10, 99], [0, 3, 3, 1], [0, 1, 1, 3], [1, 0, 0, 1]
    events = make_events(*map(np.array, columns))
    by_time = to_frames(events, 2, (4, 4))
    assert by_time[0, 1, 0, 0] == 1 and by_time[0, 0, 1, 3] == 2 and by_time[1, 1, 3, 1] == 1
    by_count = to_frames(events, 2, (4, 4), by="count")
    assert by_count.sum((1, 2, 3)).tolist() == [2, 2]
    smaller = to_frames(events, 1, (4, 4), 2)
    assert smaller[0].tolist() == [[[0, 2], [0, 0]], [[1, 0], [1, 0]]]


@pytest.mark.parametrize("by", ["time", "count"])
def test_chunks_do_not_show(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events = random_events(1000, 34)
    whole = to_frames(events, 7, (34, 34), 16, by)
    monkeypatch.setattr(frames, "CHUNK", 13)
    assert np.array_equal(whole, to_frames(events, 7, (34, 34), 16, by))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sensor": (34, 20)}, r"columns 0\.\.19 of the sensor"),
        ({"sensor": (20, 34)}, r"rows 0\.\.19 of the sensor"),
        ({"size": 35}, "cannot come from a sensor of 34x34"),
        ({"size": 0}, "cannot come from"),
        ({"steps": 0}, "at least 1, got 0"),
        ({"by": "tyme"}, "did you mean 'time'"),
    ],
)
def test_wrong_frames_are_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_frames(random_events(500, 34), **{"steps": 4, "sensor": (34, 34), **kwargs})


def test_digits_in_motion() -> None:
    data = load_dataset("digits-events", n=40)
    assert data.images.shape == (40, 10, 2, 16, 16) and data.images.dtype == torch.float32
    assert set(data.images.unique().tolist()) == {0.0, 1.0}
    assert data.labels.tolist() == [*range(10)] * 4
    assert 0.1 < data.images.mean() < 0.3
    assert load_dataset("digits-events", n=3).sha256 == data.take(3).sha256
    assert load_dataset("digits-events", n=2, size=8, steps=4).images.shape == (2, 4, 2, 8, 8)
    # a changed camera would make old verdicts incomparable
    assert data.sha256.startswith("af144150c67e4150")


def test_the_splits_share_the_camera_and_no_starting_point() -> None:
    digits = load_dataset("digits", n=2)
    same = replace(digits, images=digits.images[:1].repeat(2, 1, 1, 1))
    first, second = record_digits(same)
    (later,) = record_digits(digits.take(1), earlier=1)
    assert np.array_equal(later, second) and not np.array_equal(first, second)
    train = load_dataset("digits", split="train", n=1)
    alone = load_dataset("digits-events", split="train", n=1)
    (recorded,) = record_digits(train, earlier=500)
    frames = to_frames(recorded, 10, (16, 16))
    assert torch.equal(alone.images[0], torch.from_numpy((frames > 0).astype(np.float32)))


def test_the_camera_sees_motion_and_contrast_alone() -> None:
    digits = load_dataset("digits", n=3)
    events = record_digits(digits)
    for recording in events:
        assert (np.diff(recording["t"]) >= 0).all()
        assert recording["t"].min() >= 0 and recording["t"].max() <= 300_000
        assert 200 < len(recording) < 5000
        # what turns bright turns dark again, up to what rests beyond the threshold
        assert abs(int(recording["p"].sum()) * 2 - len(recording)) < 0.15 * len(recording)
    again = record_digits(digits)
    assert all(np.array_equal(a, b) for a, b in zip(events, again, strict=True))
    other = record_digits(digits, seed=1)
    assert not np.array_equal(events[0], other[0])
    blank = torch.zeros_like(digits.images)
    assert not any(map(len, record_digits(type(digits)("", "", blank, digits.labels, ()))))


def make_nmnist(root: Path) -> None:
    for split in ("Train", "Test"):
        for label in (3, 5):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for number in range(2):
                seed = 10 * label + number
                write_nmnist(folder / f"{number:05d}.bin", random_events(400, 34, seed))


def make_cifar(root: Path) -> None:
    for label, name in enumerate(CIFAR):
        (root / name).mkdir(parents=True)
        for number in range(10):
            events = random_events(300, 128, seed=100 * label + number)
            write_aedat2(root / name / f"cifar10_{name}_{number}.aedat", events)


OBJECTS = ("Faces_easy", "accordion", "yin_yang")


def make_caltech(root: Path) -> None:
    for label, name in enumerate(OBJECTS):
        folder = root / "Caltech101" / name
        folder.mkdir(parents=True)
        for number in range(1, 11):
            events = random_events(250, 180, seed=100 * label + number)
            events["x"] += 60 * (number == 10)  # up to column 239
            write_nmnist(folder / f"image_{number:04d}.bin", events)


def make_gesture(root: Path) -> None:
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    for split, user in (("train", "user01_led"), ("test", "user24_lab")):
        (folder / f"trials_to_{split}.txt").write_text(f"{user}.aedat\n\n")
        write_aedat3(folder / f"{user}.aedat", random_events(1000, 128))
        table = "class,startTime_usec,endTime_usec\n2,0,100000\n11,150000,300000\n"
        (folder / f"{user}_labels.csv").write_text(table)


def make_gesture_arrays(root: Path) -> None:
    for split in ("Train", "Test"):
        folder = root / f"ibmGesture{split}" / "user01_led"
        folder.mkdir(parents=True)
        for label in (1, 10):
            write_gesture_array(folder / f"{label}.npy", random_events(500, 128, seed=label))


BOTH = ("train", "test")


def labelled(events: np.ndarray) -> int:
    """How many events lie inside the gestures of `make_gesture`."""
    t = events["t"]
    return int((t < 100_000).sum() + ((t >= 150_000) & (t < 300_000)).sum())


class Written(NamedTuple):
    """Files of a published set as a test writes them.

    Attributes:
        name: Name of the set.
        write: Writes its files below a root.
        labels: Labels of each split.
        frames: Number of frames, and their height.
        events: Events in the files of each split, inside the labelled times.
    """

    name: str
    write: Callable[[Path], None]
    labels: dict[str, list[int]]
    frames: tuple[int, int]
    events: dict[str, int]


SETS = {
    "n-mnist": Written(
        "n-mnist",
        make_nmnist,
        dict.fromkeys(BOTH, [3, 5, 3, 5]),
        (10, 34),
        dict.fromkeys(BOTH, 1600),
    ),
    "cifar10-dvs": Written(
        "cifar10-dvs",
        make_cifar,
        {"train": [*range(10)] * 9, "test": [*range(10)]},
        (10, 48),
        {"train": 300 * 90, "test": 300 * 10},
    ),
    "n-caltech101": Written(
        "n-caltech101",
        make_caltech,
        {"train": [0, 1, 2] * 9, "test": [0, 1, 2]},
        (10, 48),
        {"train": 250 * 27, "test": 250 * 3},
    ),
    "gesture": Written(
        "dvs128-gesture",
        make_gesture,
        dict.fromkeys(BOTH, [1, 10]),
        (16, 48),
        dict.fromkeys(BOTH, labelled(random_events(1000, 128))),
    ),
    "gesture arrays": Written(
        "dvs128-gesture",
        make_gesture_arrays,
        dict.fromkeys(BOTH, [1, 10]),
        (16, 48),
        dict.fromkeys(BOTH, 1000),
    ),
}


def test_classes_of_a_set_may_be_its_folders(tmp_path: Path) -> None:
    pytest.importorskip("tonic")
    make_caltech(tmp_path)
    assert load_dataset("n-caltech101", root=tmp_path, n=1).classes == OBJECTS


def test_every_published_set_has_a_row() -> None:
    assert {row.name for row in SETS.values()} == set(EVENT_FILES)


@pytest.mark.parametrize("key", SETS)
def test_published_sets_load_from_their_files(key: str, tmp_path: Path) -> None:
    name, write, labels, (steps, size), events = SETS[key]
    if key in ("n-mnist", "n-caltech101"):
        pytest.importorskip("tonic")
    write(tmp_path)
    for split, expected in labels.items():
        data = load_dataset(name, split=split, root=tmp_path)
        assert data.labels.tolist() == expected
        assert data.images.shape == (len(expected), steps, 2, size, size)
        assert (data.images * 255).sum() == pytest.approx(events[split], abs=1e-3)
    binary = load_dataset(f"{name}-binary", root=tmp_path, n=2, steps=4, size=8)
    assert binary.images.shape == (2, 4, 2, 8, 8)
    assert set(binary.images.unique().tolist()) <= {0.0, 1.0}
    few = [
        load_dataset(name, split=split, root=tmp_path, n=min(4, len(expected)), steps=2, size=16)
        for split, expected in labels.items()
    ]
    check_training(*few, tmp_path / "run", "snn_sew7b", "sdt-dvs")


@pytest.mark.parametrize("name", [*EVENT_FILES, "n-mnist-binary"])
def test_missing_files_say_what_to_put_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"'{name}' needs a data root .* unpack"):
        load_dataset(name)
    with pytest.raises(InputError, match=rf"no test files of '{name}' in data root .* unpack"):
        load_dataset(name, root=tmp_path)


def test_frames_are_built_once_and_again_when_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gesture_arrays(tmp_path / "data")
    monkeypatch.setenv("ROBUST_SNN_CACHE", str(tmp_path / "cache"))
    built = []
    monkeypatch.setattr(load, "to_frames", lambda *args: built.append(1) or to_frames(*args))

    def read() -> torch.Tensor:
        return load_dataset("dvs128-gesture", root=tmp_path / "data").images

    first = read()
    assert torch.equal(first, read()) and len(built) == 2  # recordings
    load_dataset("dvs128-gesture", root=tmp_path / "data", steps=5)
    assert len(built) == 4
    (stored,) = (p for p in (tmp_path / "cache").iterdir() if np.load(p).shape[1] == 16)
    stored.write_bytes(stored.read_bytes()[:-1])  # torn
    assert torch.equal(first, read()) and len(built) == 6
    flipped = bytearray(stored.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    stored.write_bytes(flipped)
    assert torch.equal(first, read()) and len(built) == 8
    place = tmp_path / "data" / "ibmGestureTest" / "user01_led" / "1.npy"
    write_gesture_array(place, random_events(501, 128))
    assert read().sum() * 255 == pytest.approx(1001, abs=1e-3) and len(built) == 10
    monkeypatch.setattr(frame_cache, "VERSION", 2)
    read()
    assert len(built) == 12


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    make_gesture_arrays(tmp_path)
    (tmp_path / "ibmGestureTest" / "user01_led" / "1.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"1\.npy"):
        load_dataset("dvs128-gesture", root=tmp_path)
    assert not list((tmp_path / "robust_snn_frames").iterdir())


def test_augmentation_moves_whole_recordings() -> None:
    images = torch.rand(6, 3, 2, 8, 8)
    moved = augment_events(images, torch.Generator().manual_seed(1), shift=2)
    assert moved.shape == images.shape and not torch.equal(moved, images)
    assert torch.allclose(moved.sum((-1, -2)), images.sum((-1, -2)), atol=1e-4)
    still = augment_events(images, torch.Generator(), shift=0, flip=False)
    assert torch.equal(still, images)
    column = torch.zeros(64, 2, 1, 4, 4)
    column[..., 0] = 1
    flipped = augment_events(column, torch.Generator(), shift=0)
    assert {tuple(x[0, 0, 0].tolist()) for x in flipped} == {(1, 0, 0, 0), (0, 0, 0, 1)}


@pytest.mark.slow
def test_a_hundred_megabytes_in_bounded_memory(tmp_path: Path) -> None:
    n = 100_000_000 // EVENT_DTYPE.itemsize
    stored = np.lib.format.open_memmap(tmp_path / "events.npy", "w+", EVENT_DTYPE, (n,))
    for start in range(0, n, 1 << 20):
        part = random_events(min(1 << 20, n - start), 128, start)
        part["t"] += start
        stored[start : start + len(part)] = part
    del stored
    events = np.load(tmp_path / "events.npy", mmap_mode="r")
    tracemalloc.start()
    counts = to_frames(events, 10, (128, 128), 48)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.sum() == n
    assert peak < 60e6


def test_aedat2_leaves_special_events_out_and_follows_its_clock(tmp_path: Path) -> None:
    words = [(127 << 8 | 127 << 1, 4_294_967_290), (1 << 15, 4_294_967_291), (0, 5), (1, 9)]
    raw = b"#!AER-DAT2.0\r\n" + np.array(words, ">u4").tobytes()
    (tmp_path / "a.aedat").write_bytes(raw)
    events = read_aedat2(tmp_path / "a.aedat")
    assert (events["t"] - events["t"][0]).tolist() == [0, 11, 15]
    assert events["x"].tolist() == [0, 127, 127] and events["p"].tolist() == [True, True, False]


def at(column: int, t: int) -> tuple[int, int]:
    """A word of AEDAT 2."""
    return (127 - column) << 1, t


LAST = (1 << 32) - 1  # of a clock of 32 bits


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([at(1, LAST - 5), at(2, 3), at(3, LAST), at(4, 8)], [0, 5, 9, 14]),  # out of order
        ([at(1, LAST), at(2, 0), at(3, 1 << 31), at(4, LAST), at(5, 2)], None),  # twice
        ([(1 << 15, LAST - 5), at(2, 3), at(3, 9)], [0, 6]),  # a special event before
        ([(0xFFFF8001, 1), at(3, 2)], [0]),
        ([(1 << 15, 6)], []),
        ([], []),
        ([at(1, 5_000_000), at(2, 3)], "goes back by 5 s"),
        ([at(1, 9), at(2, 3)], [0, 6]),
        ([(5 << 22 | 7 << 12, 1)], "another camera"),
        ([at(1, 1), (1 << 31 | 5, 2)], "another camera"),
    ],
)
def test_clocks_and_addresses_of_aedat2(words: Any, found: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n" + np.array(words, ">u4").tobytes())
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            read_events(read_aedat2, path)
        return
    t = read_events(read_aedat2, path)["t"]
    expected = [0, 1, 1 + (1 << 31), LAST + 1, LAST + 4] if found is None else found
    assert (t - t[:1]).tolist() == expected


@pytest.mark.parametrize(
    "odd",
    [
        [1, 1, 1, math.nan],
        [1, 1, 1, math.inf],
        [1, 1, 1, 1e17],
        [1.5, 1, 1, 1],
        [1, math.nan, 1, 1],
    ],
)
def test_numbers_that_are_no_events(odd: list[float], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.0, 1.0, 1.0, 1.0], odd]))
    with pytest.raises(InputError, match="cannot read events from .*a.npy"):
        read_events(read_gesture_array, tmp_path / "a.npy")


def test_events_that_are_stored_otherwise_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.aedat").write_bytes(
        b"#!AER-DAT3.1\r\n#Format: SERIALIZED-TS\r\n#!END-HEADER\r\n"
    )
    with pytest.raises(InputError, match="not stored as they are"):
        read_events(read_aedat3, tmp_path / "a.aedat")


def test_milliseconds_are_rounded_and_places_off_every_sensor_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[1.0, 2.0, 1.0, 1.001], [3.0, 4.0, 0.0, 2.003]]))
    assert read_gesture_array(path)["t"].tolist() == [1001, 2003]
    np.save(path, np.array([[65536.0 + 5, 2.0, 1.0, 1.0]]))
    with pytest.raises(InputError, match="row or column 65541"):
        read_events(read_gesture_array, path)


def test_other_times_of_gestures_are_other_frames(tmp_path: Path) -> None:
    make_gesture(tmp_path)
    first = load_dataset("dvs128-gesture", root=tmp_path, steps=4)
    for table in (tmp_path / "DvsGesture").glob("*_labels.csv"):
        head, *rows = table.read_text().splitlines()
        moved = [
            ",".join([(cells := row.split(","))[0], cells[1], str(int(cells[2]) - 1000)])
            for row in rows
        ]
        table.write_text("\n".join([head, *moved]) + "\n")
    second = load_dataset("dvs128-gesture", root=tmp_path, steps=4)
    assert first.labels.tolist() == second.labels.tolist()
    assert not torch.equal(first.images, second.images)


def test_a_pixel_that_stands_still_at_a_threshold_has_a_time() -> None:
    """Rounding may leave a crossing to a step in which the brightness does not change."""
    still, threshold = torch.zeros(1, 1, 1).double(), torch.full((1, 1), 0.4).double()
    ((_, time, *_),) = _crossings(still, still, still - threshold, threshold, step=3)
    assert time.tolist() == [10_000]
