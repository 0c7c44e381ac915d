"""Where runs lie: paths of this machine, and URLs such as `s3://bucket/run` of other places."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from robust_snn.utils.errors import InputError, first_line, missing_extra


def place(named: str | Path) -> Path:
    """A path that a user names, or what stands for one: a URL that fsspec knows, file by file.

    Raises:
        InputError: If nothing is known of such URLs.
        ImportError: If what reads them is not installed.
    """
    if not isinstance(named, str):
        return named
    if "://" not in named:
        return Path(named)
    try:
        upath = importlib.import_module("upath")
    except ImportError:
        raise missing_extra("universal-pathlib", "urls") from None
    try:
        found = upath.UPath(named, use_listings_cache=False)  # others write there, too
        _ = found.fs
    except (ImportError, ValueError) as error:  # it names what to install
        raise InputError(f"cannot use '{named}': {first_line(error)}") from None
    return cast(Path, found)


def is_remote(path: str | Path) -> bool:
    """Whether a place is a URL, where nothing can be locked and a file is written at once."""
    return not isinstance(path, str | Path)


def on_this_machine(path: Path) -> Path | None:
    """The path behind a `file://` URL; None for other URLs."""
    local = getattr(path, "protocol", "") in ("file", "local")
    return Path(getattr(path, "path", "")) if local else None


@contextmanager
def remote_errors(path: Path) -> Iterator[None]:
    """Whatever a library says of a place elsewhere is an `OSError`, as the system's errors are."""
    try:
        yield
    except Exception as error:  # libraries raise anything: no rights, no network, no space
        code = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EIO
        raise OSError(code, first_line(error), str(path)) from error
