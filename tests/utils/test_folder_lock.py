"""Locks of the system, none at all, and those of a process that is gone."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from robust_snn.utils import folder_lock
from robust_snn.utils.folder_lock import locked


def test_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "a", 0) as ours, locked(tmp_path / "b", 0) as another:
        assert ours and another
        with locked(tmp_path / "a", 0) as again:
            assert not again
    with locked(tmp_path / "a") as ours:
        assert ours


@pytest.mark.parametrize("number", sorted(folder_lock._NO_LOCKS))
def test_without_locks_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with locked(tmp_path / "a", 0) as ours, locked(tmp_path / "a", 0) as another:
            assert ours and another
    assert "no file locks in" in caplog.text


def test_other_errors_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError), locked(tmp_path / "file" / "a", 0):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOSPC])
def test_a_disk_that_fails_is_no_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(number, "no")))
    with pytest.raises(OSError, match="no"), locked(tmp_path / "a", 0):
        pass


def hold(path: Path, ready: Any, release: Any) -> None:
    with locked(path):
        ready.set()
        release.wait()


def test_waiting_says_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_lock, "SAY_AFTER", 0.1)
    fork = multiprocessing.get_context("fork")
    ready, release = fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(tmp_path / "a", ready, release))
    other.start()
    ready.wait()
    said: list[str] = []

    class Freeing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            release.set()

    handler = Freeing()
    logging.getLogger("robust_snn").addHandler(handler)
    try:
        with locked(tmp_path / "a") as ours:
            assert ours
    finally:
        logging.getLogger("robust_snn").removeHandler(handler)
        other.join()
    assert len(said) == 1 and str(tmp_path / "a") in said[0] and "delete it" in said[0]
