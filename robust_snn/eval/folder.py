"""The folder of a run: one file per finished piece, written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from robust_snn.errors import InputError
from robust_snn.eval.pieces import Piece

_log = logging.getLogger("robust_snn")
FORMAT = 1
CONFIG = "config.json"


class RunFolder:
    """A folder that holds one configuration and the pieces finished under it.

    Args:
        path: The folder; made if it is not there.
        config: Everything that the numbers depend on, as JSON values.

    Raises:
        InputError: If the folder holds another configuration or something else, or is not writable.
    """

    def __init__(self, path: str | Path, config: dict[str, Any]) -> None:
        self.path = Path(path)
        config = json.loads(json.dumps({"robust_snn_run": FORMAT, **config}))
        found = self._found()
        if found is not None:
            self._refuse_other(found, config)
        try:
            (self.path / "pieces").mkdir(parents=True, exist_ok=True)
            write_json(self.path / CONFIG, config)  # again: it shows now whether this is possible
        except OSError as error:
            raise InputError(f"cannot write a run to '{self.path}': {error.strerror}") from None

    def _found(self) -> dict[str, Any] | None:
        """The configuration in the folder, if it has one."""
        try:
            found = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            if (self.path / "verdict.json").exists():
                raise self._foreign("a verdict without its configuration") from None
            return None
        except NotADirectoryError:
            raise self._foreign("a file") from None
        except (OSError, ValueError):
            raise self._foreign(f"a {CONFIG} that cannot be read") from None
        if not isinstance(found, dict) or "robust_snn_run" not in found:
            raise self._foreign(f"a {CONFIG} that belongs to something else")
        return found

    def _foreign(self, what: str) -> InputError:
        return InputError(f"'{self.path}' holds {what}; choose another folder")

    def _refuse_other(self, found: dict[str, Any], config: dict[str, Any]) -> None:
        if found != config:
            changes = "; ".join(differences(found, config))
            raise InputError(
                f"'{self.path}' holds a run with another configuration ({changes}); "
                "choose another folder, or start it as it was to go on"
            )

    def load(self, name: str) -> Piece | None:
        """A finished piece, or None. A damaged file counts as not there."""
        path = self._file(name)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return Piece.from_arrays(dict(arrays))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            _log.warning("%s is damaged and will be made again", path)
            return None

    def save(self, name: str, piece: Piece) -> None:
        """Stores a piece, whole or not at all, whenever the process or the power fails."""
        self._file(name).parent.mkdir(exist_ok=True)
        arrays: dict[str, Any] = piece.arrays()
        write_whole(self._file(name), lambda file: np.savez(file, **arrays))

    def _file(self, name: str) -> Path:
        return self.path / "pieces" / f"{name}.npz"


def write_json(path: Path, tree: Any) -> None:
    """Writes JSON, whole or not at all."""
    text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, lambda file: file.write(f"{text}\n".encode()))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside its place, waits for the disk, then renames it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """What changed between two trees of JSON values, such as `seed: 0, now 1`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            inner = f"{key}.{name}" if key else name
            yield from differences(old.get(name), new.get(name), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True), 1):
            yield from differences(*pair, f"{key}.{number}")
    elif old != new:
        yield f"{key}: {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
