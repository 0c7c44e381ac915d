"""Commands that are refused: by one line, with nothing written."""

from __future__ import annotations

import shlex
from hashlib import sha256
from pathlib import Path

import pytest

from robust_snn import cli


def state(folder: Path) -> dict[str, str]:
    """Every path in a folder with the digest of its content."""
    return {
        str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command; returns the one line that it ends with."""
    with pytest.raises(SystemExit) as left:
        cli.main(shlex.split(words))
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert captured.out == "" and "Traceback" not in captured.err
    lines = captured.err.splitlines()
    assert [line for line in lines if line.startswith("robust-snn: ")] == lines[-1:]
    assert lines[-1].isprintable()
    return lines[-1]
