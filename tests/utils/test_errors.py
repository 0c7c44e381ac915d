"""What messages say of files and folders that the system refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from robust_snn import InputError
from robust_snn.data.arrays import load_arrays
from robust_snn.utils.errors import FolderError, reason_of, resumable

DENIED = PermissionError(errno.EACCES, "Permission denied", "/data/x.npz")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DENIED, "Permission denied"),
        (OSError("no picture\n in it"), "no picture in it; is it complete?"),
        (ValueError("x" * 200), "x" * 120 + "; is it complete?"),
        (KeyError("images"), "KeyError: 'images'; is it complete?"),
        (EOFError(), "EOFError; is it complete?"),
    ],
)
def test_the_system_is_quoted_alone_and_readers_with_a_hint(error: Exception, said: str) -> None:
    assert reason_of(error, "; is it complete?") == said


def test_a_file_that_may_not_be_read_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise DENIED

    monkeypatch.setattr(np, "load", denied)
    with pytest.raises(InputError, match="^cannot read '.*x.npz': Permission denied$"):
        load_arrays(tmp_path / "x.npz", "test", None, None)


def test_a_folder_that_fails_says_how_to_go_on(tmp_path: Path) -> None:
    message = f"^cannot read or write '{tmp_path}': Permission denied; .* start the same training"
    with pytest.raises(FolderError, match=message), resumable(tmp_path, "training"):
        raise DENIED
