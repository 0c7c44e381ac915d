"""The run folder: whole files, one configuration."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import refuse_reading
from robust_snn import InputError
from robust_snn.eval.execution.out_of_memory import in_parts, on_fewer
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import ShardResult, WorstCase
from robust_snn.utils.errors import FolderError

CONFIG: dict[str, Any] = {"seed": 0, "attacks": {"square": {"steps": 5}}, "eps": 0.1}


def piece(select: list[float], margin: list[float], prediction: int = 0) -> ShardResult:
    n = len(select)
    return ShardResult(
        positions=np.arange(n),
        images=np.full((n, 1, 2, 2), 0.25, np.float32),
        select=np.array(select),
        margin=np.array(margin),
        predictions=np.full((n, 2), prediction, np.int16),
        tied=np.zeros((n, 2), bool),
        claimed_robust=np.ones(n, bool),
        forwards=3,
        backwards=2,
        seconds=0.5,
        warnings=("one", "two"),
    )


def test_pieces_come_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b", CONFIG)
    assert folder.load("01-x/00000") is None
    stored = piece([1.0, 0.5], [0.1, 0.2])
    folder.save("01-x/00000", stored)
    found = RunFolder(tmp_path / "a" / "b", CONFIG).load("01-x/00000")
    assert found is not None
    for name, value in stored.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], value)
    assert (found.forwards, found.warnings) == (3, ("one", "two"))


def test_a_piece_that_the_system_refuses_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.save("a/0", piece([1.0], [0.1]))
    refuse_reading(monkeypatch, errno.EACCES)
    with pytest.raises(FolderError, match="Permission denied; what is finished is safe"):
        folder.load("a/0")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"noise"])
def test_a_damaged_piece_is_made_again(tmp_path: Path, damage: bytes) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.save("a/0", piece([1.0], [0.1]))
    (tmp_path / "pieces" / "a" / "0.npz").write_bytes(damage)
    assert folder.load("a/0") is None


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.save("a/0", piece([1.0], [0.1]))
    arrays = piece([1.0], [0.1]).arrays() | {"warnings": np.array([print], dtype=object)}
    np.savez(tmp_path / "pieces" / "a" / "0.npz", allow_pickle=True, **arrays)
    assert folder.load("a/0") is None


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    changed = {**CONFIG, "seed": 1, "attacks": {"square": {"steps": 6}}}
    with pytest.raises(InputError, match="another configuration") as caught:
        RunFolder(tmp_path, changed)
    assert "seed: 0, now 1" in str(caught.value)
    assert "attacks.square.steps: 5, now 6" in str(caught.value)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", json.dumps({"architecture": "resnet"}), "belongs to something else"),
        ("config.json", "{", "cannot be read"),
        ("config.json", "[]", "belongs to something else"),
        ("verdict.json", "{}", "without its configuration"),
    ],
)
def test_a_foreign_folder_is_left_alone(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        RunFolder(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


def test_a_piece_of_another_place_is_made_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.save("a/0", piece([1.0], [0.1]))
    found = tmp_path / "pieces" / "a" / "0.npz"
    found.with_name("1.npz").write_bytes(found.read_bytes())
    assert folder.load("a/0") is not None and folder.load("a/1") is None
    assert folder.load("a/0", flaw=lambda result: None) is not None
    assert folder.load("a/0", flaw=lambda result: "too bright") is None
    folder.bind([{"name": "another attack"}])
    assert folder.load("a/0") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"positions": np.array([1, 0])}, "other images"),
        ({"select": np.array([0.3, 1.0])}, "share"),
        ({"select": np.array([1.5, 1.0])}, "share"),
        ({"select": np.array([1.0])}, "select"),
        ({"margin": np.array([np.nan, 0.0])}, "margin"),
        ({"predictions": np.full((2, 3), 0, np.int16)}, "predictions"),
        ({"predictions": np.full((2, 2), 4, np.int16)}, "classes"),
        ({"predictions": np.full((2, 2), -1, np.int16)}, "classes"),
        ({"predictions": np.full((2, 2), 0.5)}, "predictions"),
        ({"claimed_robust": np.ones(2)}, "claimed"),
        ({"forwards": -1}, "cost"),
        ({"seconds": float("nan")}, "cost"),
    ],
)
def test_what_a_result_cannot_be(change: dict[str, Any], message: str | None) -> None:
    found = replace(piece([1.0, 0.5], [0.1, 0.2]), **change).flaw(np.arange(2), 2, 2, classes=4)
    assert found is None if message is None else message in str(found)


def test_a_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"robust_snn_run": 2, **CONFIG}))
    with pytest.raises(InputError, match="earlier version"):
        RunFolder(tmp_path, CONFIG)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(InputError, match="holds a file"):
        RunFolder(path, CONFIG)
    with pytest.raises(InputError, match="holds a file|cannot write"):
        RunFolder(path / "inside", CONFIG)
    assert path.read_text() == "mine"


STALE = "4711\nanother-host\n"  # what a lock of filelock's soft kind holds
LEFT: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "a soft lock of another host": (lambda lock: lock.write_text(STALE), None),
    "a soft lock of a dead process": (lambda lock: lock.write_text("999999\n"), None),
    "an empty file": (lambda lock: lock.touch(), None),
    "anything": (lambda lock: lock.write_bytes(bytes(range(256))), None),
    "a file that is read only": (lambda lock: (lock.touch(), lock.chmod(0o444)), None),
    "a pipe": (lambda lock: os.mkfifo(lock), None),
    "no folder": (lambda lock: shutil.rmtree(lock.parent), None),
    "a folder": (lambda lock: lock.mkdir(), "Is a directory"),
    "a link to nowhere": (lambda lock: lock.symlink_to("/nowhere/at/all"), "symbolic links"),
    "a link to a file": (lambda lock: lock.symlink_to(lock.parent / "run"), "symbolic links"),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_lies_in_the_place_of_a_lock(what: str, tmp_path: Path) -> None:
    """The run goes on, or says what to repair; a file of a dead process locks nothing."""
    leave, message = LEFT[what]
    folder = RunFolder(tmp_path / "run", CONFIG)
    leave(folder.lock_file("00000"))
    if message is not None:
        with (
            pytest.raises(FolderError, match=f"{message}; what is finished is safe"),
            folder.lock_shard(0),
        ):
            pass
        return
    with folder.lock_shard(0) as ours:
        assert ours
    folder.conclude()


def test_worst_keeps_the_hardest_version() -> None:
    worst = WorstCase(piece([1.0, 1.0, 0.5, 0.0], [0.3, 0.3, 0.3, -0.2]))
    assert worst.unbroken(0.0).tolist() == [0, 1, 2]
    assert worst.unbroken(0.5).tolist() == [0, 1]
    attack = piece([1.0, 0.5, 0.6], [0.1, 0.9, -1.0], prediction=7)
    alone = worst.update(attack)
    assert worst.select.tolist() == [1.0, 0.5, 0.5, 0.0]
    assert worst.predictions[:, 0].tolist() == [7, 7, 0, 0]  # equal accuracy: the smaller margin
    assert alone[:, 0].tolist() == [7, 7, 7, 0]  # alone, an attack answers for what it attacked


@pytest.mark.parametrize(
    "text",
    ["CUDA out of memory. Tried to allocate 2 GiB", "could not create a primitive"],  # oneDNN's
)
def test_batches_are_halved_until_they_fit(text: str) -> None:
    seen = []

    def work(start: int, stop: int) -> range:
        seen.append(stop - start)
        if stop - start > 3:
            raise RuntimeError(text)
        return range(start, stop)

    parts = in_parts(work, 0, 10)
    assert [index for part in parts for index in part] == list(range(10))
    assert seen == [10, 5, 2, 3, 5, 2, 3]
    assert on_fewer(lambda count: len(work(0, count)), 10) == (2, 2)


@pytest.mark.parametrize(("size", "text"), [(1, "out of memory"), (8, "shape mismatch")])
def test_other_errors_pass(size: int, text: str) -> None:
    def work(start: int, stop: int) -> None:
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=text):
        in_parts(work, 0, size)
