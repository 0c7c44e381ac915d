"""Paths that a user names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robust_snn.utils.errors import InputError
from robust_snn.utils.user_files import (
    check_output_folder,
    check_place,
    is_there,
    output_folder,
)


def test_what_is_there(tmp_path: Path) -> None:
    assert is_there(tmp_path)
    assert not is_there(tmp_path / "gone") and not is_there(Path(__file__) / "inside")


def test_output_folders(tmp_path: Path) -> None:
    output_folder(tmp_path / "new" / "folder", "the page")
    output_folder(tmp_path / "new" / "folder", "the page")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for taken in ("file", "pipe", "file/inside"):
        with pytest.raises(InputError, match="is no folder; name another place for the page"):
            output_folder(tmp_path / taken, "the page")
    for impossible in ("x" * 300, "a\0b"):
        with pytest.raises(InputError, match="for the page: "):
            output_folder(tmp_path / impossible, "the page")


def test_folders_that_will_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for fine in ("new/folder", "", f"file://{tmp_path}/new"):
        check_output_folder(fine if "://" in fine else tmp_path / fine, "the page")
    for taken in ("file", "file/inside"):
        with pytest.raises(InputError, match="is no folder; name another place for the page"):
            check_output_folder(tmp_path / taken, "the page")
    with pytest.raises(InputError, match="cannot write the page to '/proc/new': "):
        check_output_folder("/proc/new", "the page")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("path", ["~", "~/runs/new"])
def test_home_is_no_folder_of_that_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (is_there, check_place, lambda place: output_folder(place, "the page")):
        with pytest.raises(InputError, match="begins with ~: give os.path.expanduser"):
            use(Path(path))
    assert not list(tmp_path.iterdir()) and not is_there("~new")
