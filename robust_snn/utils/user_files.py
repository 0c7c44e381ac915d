"""Paths that a user names: what is there, and whether reading it would ever end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from robust_snn.utils.errors import InputError

_ENDLESS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def is_there(path: str | Path, what: str = "the path") -> bool:
    """Whether something is at a path that can be read.

    Args:
        path: The path.
        what: What messages call it.

    Raises:
        InputError: If it is a pipe, a device or a socket, whose reading may never end, or if the
            system takes the text for no path.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # too long, a loop of links, a null byte, no permission
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {what} '{path!s:.200}': {reason}") from None
    if kind in _ENDLESS:
        raise InputError(f"cannot read {what} '{path}': it is {_ENDLESS[kind]}, not a file")
    return True
