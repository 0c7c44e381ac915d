"""Files of our own that show whether they were damaged: arrays and JSON with a digest of all of it.

Arrays are an ordinary `.npz`, whose digest stands in the comment at the end, so that other programs
read it too. Whatever is wrong with a file, reading it raises one error, `DamagedFile`. What the
system refuses (no permission, a disk that is away) is no damage, and stays an `OSError`.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.utils.atomic_files import write_json, write_whole
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.user_files import is_there

MARK = b"sha256:"
_DIGITS = hashlib.sha256().digest_size * 2
_KEY = "sha256"


class DamagedFile(ValueError):
    """A file is not as it was written."""


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Writes arrays by name, whole or not at all."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    content = buffer.getbuffer()
    end = struct.pack("<H", len(MARK) + _DIGITS)  # the last field of a zip file, of its comment
    digest = hashlib.sha256(content[:-2])
    digest.update(end)

    def write(file: Any) -> None:
        for part in (content[:-2], end, MARK, digest.hexdigest().encode()):
            file.write(part)

    write_whole(path, write)


def read_arrays(path: Path, *, digested: bool = True) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Args:
        path: The file.
        digested: Whether it must have a digest; files of earlier versions have none.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If the system does not let it be read.
        DamagedFile: If it is not as it was written.
    """
    _require(path)
    content = path.read_bytes()
    try:
        without_digest(content, path, digested=digested)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except DamagedFile:
        raise
    except Exception as error:  # zip and NumPy raise anything on foreign bytes
        raise DamagedFile(f"'{path}' cannot be read: {error or type(error).__name__}") from None


def with_digest(content: bytes) -> bytes:
    """Bytes of a file whose readers ignore what follows, with a digest at their end."""
    return content + MARK + hashlib.sha256(content).hexdigest().encode()


def without_digest(content: bytes, path: Path, *, digested: bool = True) -> bytes:
    """The bytes before the digest at the end of a file.

    Args:
        content: All bytes of the file.
        path: What messages call it.
        digested: Whether there must be a digest; files of earlier versions have none.

    Raises:
        DamagedFile: If the bytes are not those that it is the digest of.
    """
    body, mark = content[: -len(MARK) - _DIGITS], content[-len(MARK) - _DIGITS :]
    if not mark.startswith(MARK):
        if digested:
            raise DamagedFile(f"'{path}' has no digest at its end")
        return content
    if mark[len(MARK) :] != hashlib.sha256(body).hexdigest().encode():
        raise DamagedFile(f"'{path}' has changed since it was written")
    return body


def write_record(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a JSON object, whole or not at all."""
    write_json(path, {**tree, _KEY: _digest(tree)})


def read_record(path: Path) -> dict[str, Any]:
    """Reads what `write_record` wrote.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If the system does not let it be read.
        DamagedFile: If it is not as it was written.
    """
    _require(path)
    try:
        tree = read_json(path, "the file")
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise DamagedFile(str(error)) from None
    if not isinstance(tree, dict) or tree.pop(_KEY, None) != _digest(tree):
        raise DamagedFile(f"'{path}' has changed since it was written")
    return tree


def check_record(tree: Mapping[str, Any], path: Path) -> None:
    """Raises `InputError` if a record that others may have written has a digest of something else.

    Those of earlier versions and of other programs have none.
    """
    if _KEY in tree and tree[_KEY] != _digest({k: v for k, v in tree.items() if k != _KEY}):
        raise InputError(
            f"'{path}' has changed since it was written; start the evaluation again to restore it"
        )


def _require(path: Path) -> None:
    if not is_there(path, "the file"):
        raise FileNotFoundError(f"no file '{path}'")


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
