"""Files that are there as a whole or not at all, whenever the power fails.

A file is written as a draft beside its place and then renamed. What a killed process leaves of a
draft is removed by the next one that writes into the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from robust_snn.utils.places import is_remote, on_this_machine, remote_errors
from robust_snn.utils.user_files import check_place

OLD = 3600.0  # seconds after which a draft of another machine, whose processes are not seen, is old
_MARK = re.compile(r"([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}")
_DRAFT = re.compile(rf"\..+\.draft-({_MARK.pattern})")


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside its place, waits for the disk, then renames it.

    Raises:
        InputError: If the place is a folder, or a device, a pipe or a socket, which stay.
    """
    if is_remote(path):
        _write_remote(path, write)
        return
    check_place(path)
    remove_drafts(path.parent)
    draft = path.with_name(f".{path.name}.draft-{process_mark()}")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(draft)):  # a full disk, say
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _write_remote(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes an object, which is there as a whole or not at all once it is sent."""
    if (local := on_this_machine(path)) is not None:
        local.parent.mkdir(parents=True, exist_ok=True)
        write_whole(local, write)
        return
    content = io.BytesIO()
    write(content)
    with remote_errors(path):
        path.write_bytes(content.getvalue())


def write_text(path: Path, text: str) -> None:
    """Writes text, whole or not at all; what is no UTF-8, as in some file names, is spelled out."""
    content = text.encode(errors="backslashreplace")  # which JSON reads back as it was
    write_whole(path, lambda file: file.write(content))


def write_json(path: Path, tree: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remove_drafts(folder: Path) -> None:
    """Removes drafts in a folder whose process is gone, or which are old and from elsewhere."""
    if is_remote(folder):
        return
    with suppress(OSError):  # a folder that is not there, or not ours
        for entry in list(os.scandir(folder)):
            match = _DRAFT.fullmatch(entry.name)
            if match is None:
                continue
            old = time.time() - entry.stat().st_mtime > OLD and not is_of_here(match[1])
            if old or is_gone(match[1]):
                Path(entry.path).unlink(missing_ok=True)


def process_mark() -> str:
    """What tells this process from every other one on any machine, and the moment from others."""
    process = os.getpid()
    return f"{_machine()}-{process}-{_started(process)}-{secrets.token_hex(4)}"


def is_gone(mark: str) -> bool:
    """Whether the process that made a mark was one of this machine, and has ended."""
    match = _MARK.fullmatch(mark)
    return match is not None and is_of_here(mark) and _started(int(match[2])) != int(match[3])


def is_of_here(mark: str) -> bool:
    """Whether a process of this machine made a mark."""
    return mark.startswith(f"{_machine()}-")


@lru_cache
def _machine() -> str:
    """Eight letters for this machine since it started, and for the container in it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


def _started(process: int) -> int:
    """When a process started, in the system's own unit; -1 if there is none of that number."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return -1 if state == "Z" else int(rest[18])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return -1
    except OSError:
        pass
    try:
        os.kill(process, 0)  # asks without sending; there is no /proc
    except ProcessLookupError:
        return -1
    except OSError:
        pass
    return 0


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """What changed between two trees of JSON values, such as `seed: 0, now 1`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            inner = f"{key}.{name}" if key else name
            yield from differences(old.get(name), new.get(name), inner)
    elif old != new:
        yield f"{key}: {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
