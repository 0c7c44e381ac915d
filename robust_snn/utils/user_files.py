"""Paths that a user names: what is there, whether reading it would end, and writing harm."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import cast

from robust_snn.utils.errors import InputError
from robust_snn.utils.places import is_remote, on_this_machine, place, remote_errors

_ENDLESS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def _check_whole(path: str | Path) -> None:
    """Refuses `~`, which Python takes for the name of a folder."""
    if str(path).split("/", 1)[0] == "~":
        raise InputError(f"'{path!s:.200}' begins with ~: give os.path.expanduser({str(path)!r})")


def is_there(path: str | Path, what: str = "the path") -> bool:
    """Whether something is at a path that can be read.

    Args:
        path: The path.
        what: What messages call it.

    Raises:
        InputError: If it is a pipe, a device or a socket, whose reading may never end, or if the
            system takes the text for no path.
    """
    _check_whole(path)
    try:
        if is_remote(path):
            with remote_errors(there := cast(Path, path)):
                return there.exists()
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # too long, a loop of links, a null byte, no permission
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {what} '{path!s:.200}': {reason}") from None
    if kind in _ENDLESS:
        raise InputError(f"cannot read {what} '{path}': it is {_ENDLESS[kind]}, not a file")
    return True


def check_place(path: Path) -> None:
    """Refuses a place where no file may be put, such as `/dev/null`, which it would replace.

    Raises:
        InputError: If a folder, a pipe, a device or a socket is there.
    """
    _check_whole(path)
    found = None if path.name else "a folder"
    with suppress(OSError, ValueError):  # what is wrong besides, writing says
        found = found or _ENDLESS.get(stat.S_IFMT(os.stat(path).st_mode))
        if path.is_symlink() and os.readlink(path).startswith("/proc/"):  # such as /dev/stdout
            found = "a device"
    if found:
        raise InputError(f"cannot write '{path}': it is {found}, not a file")


def check_output_folder(named: str | Path, what: str) -> None:
    """Refuses, before the work, a folder that cannot be made or written to after it.

    Nothing stays there: a file of no name, or elsewhere an object, comes and goes.

    Args:
        named: The folder, or its URL.
        what: What is to be written, such as `"the run"`.

    Raises:
        InputError: If something else is there, or the system refuses.
    """
    path = place(named)
    path = on_this_machine(path) or path
    if is_there(path, "the folder") and not path.is_dir():
        raise _no_folder(path, what)
    try:
        if is_remote(path):
            with remote_errors(probe := path / ".probe"):
                probe.write_bytes(b"")
            with suppress(OSError), remote_errors(probe):  # not all who may write may delete
                probe.unlink()
        else:
            found = next(each for each in (path, *path.absolute().parents) if each.exists())
            with tempfile.TemporaryFile(dir=found):
                pass
    except NotADirectoryError:
        raise _no_folder(path, what) from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write {what} to '{path!s:.200}': {reason}") from None


def output_folder(path: Path, what: str) -> None:
    """Makes the folder that a user names for something, and its parents.

    Raises:
        InputError: If something else is there, or the system refuses.
    """
    _check_whole(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _no_folder(path, what) from None
    except (OSError, ValueError) as error:  # no permission, too long, a null byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot make '{path!s:.200}' for {what}: {reason}") from None


def _no_folder(path: Path, what: str) -> InputError:
    return InputError(f"'{path}' is no folder; name another place for {what}")
