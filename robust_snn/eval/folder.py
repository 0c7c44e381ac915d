"""The folder of a run: one file per finished piece, written whole or not at all."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.disk import differences, write_json, write_whole
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
