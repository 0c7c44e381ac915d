"""Files that show damage, and drafts that dead processes leave."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import refuse_reading
from robust_snn.utils import atomic_files
from robust_snn.utils.atomic_files import remove_drafts, write_text, write_whole
from robust_snn.utils.checked_files import (
    DamagedFile,
    read_arrays,
    read_record,
    write_arrays,
    write_record,
)
from robust_snn.utils.errors import InputError

READERS = {read_arrays: write_arrays, read_record: write_record}
ARRAYS = {"x": np.arange(20.0), "word": np.array("ab"), "none": np.empty((0, 3))}
RECORD = {"rows": [{"name": "a", "steps": 3}], "value": 0.25, "why": "it was so"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("read", READERS)
def test_what_the_system_refuses_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any], number: int
) -> None:
    READERS[read](tmp_path / "a", {"x": np.arange(3)} if read is read_arrays else RECORD)
    refuse_reading(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        read(tmp_path / "a")


@pytest.mark.parametrize("compressed", [False, True])
def test_no_flipped_bit_passes(tmp_path: Path, compressed: bool) -> None:
    path, flipped = tmp_path / "a.npz", tmp_path / "b.npz"
    write_arrays(path, ARRAYS, compressed=compressed)
    with np.load(path, allow_pickle=False) as plain:  # other programs read it
        np.testing.assert_array_equal(plain["x"], ARRAYS["x"])
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 600):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(changed)
        with pytest.raises(DamagedFile):
            read_arrays(flipped)
        with suppress(DamagedFile):  # as files of earlier versions are read
            np.testing.assert_array_equal(read_arrays(flipped, digested=False)["x"], ARRAYS["x"])
    for cut in random.Random(1).sample(range(len(whole)), 50):
        flipped.write_bytes(whole[:cut])
        with pytest.raises(DamagedFile):
            read_arrays(flipped)


def test_no_flipped_bit_of_a_record_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, RECORD)
    assert read_record(path) == RECORD
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with suppress(DamagedFile):
            assert read_record(path) == RECORD  # white space may change


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for read in (read_arrays, read_record):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import importlib.util
spec = importlib.util.spec_from_file_location("atomic_files", sys.argv[2])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
module.write_whole(Path(sys.argv[1]), lambda file: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_drafts_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    subprocess.run([sys.executable, "-c", KILLED, str(path), atomic_files.__file__], check=False)
    (dead,) = tmp_path.iterdir()
    assert dead.name.startswith(".model.json.draft-")
    foreign = [tmp_path / f".model.json.draft-01234567-{os.getpid()}-1-0000000{n}" for n in (1, 2)]
    for draft in foreign:
        draft.touch()
    os.utime(foreign[0], (time.time() - 2 * atomic_files.OLD,) * 2)
    mine = tmp_path / ".profile.draft"
    mine.touch()
    inside: list[str] = []

    def write(file: object) -> None:
        remove_drafts(tmp_path)  # as another thread would
        inside.extend(entry.name for entry in tmp_path.iterdir())

    write_whole(tmp_path / "other.json", write)
    (own,) = {name for name in inside if name.startswith(".other.json.draft-")}
    assert set(inside) == {foreign[1].name, mine.name, own}
    write_text(path, "whole")
    assert {entry.name for entry in tmp_path.iterdir()} == {
        foreign[1].name,
        mine.name,
        "other.json",
        "model.json",
    }


def test_a_file_does_not_take_the_place_of_a_pipe_or_a_folder(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place, what in ((pipe, "it is a pipe"), (Path(), "it is a folder")):
        with pytest.raises(InputError, match=what):
            write_text(place, "x")
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_an_error_names_the_file_and_not_its_draft(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "gone" / "a.json", "")
    assert caught.value.filename == str(tmp_path / "gone" / "a.json")
