"""The folder of a run: one file per finished attack and shard, written whole or not at all.

Any number of processes may work into one folder. A shard belongs to the process that has locked it;
the system unlocks what a dead process had locked. Locks only save work: a result is the same
whoever computes it, so nothing is wrong where the file system has none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.eval.execution.folder_lock import locked
from robust_snn.eval.execution.shard_result import ShardResult
from robust_snn.utils.atomic_files import differences, write_json, write_whole
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.user_files import is_there

_log = logging.getLogger("robust_snn")
RUN_FORMAT = 2  # of the files in a run's folder; another one is refused, not misread
CONFIG = "config.json"


class FolderError(RuntimeError):
    """A run folder could not be written to in the middle of a run."""


class RunFolder:
    """A folder that holds one configuration and the results finished under it.

    Args:
        path: The folder; made if it is not there.
        config: Everything that the numbers depend on, as JSON values.
        room: Bytes that the results of the whole run may take.

    Raises:
        InputError: If the folder holds another configuration or something else, is not writable,
            or its disk has not enough room.
    """

    def __init__(self, path: str | Path, config: dict[str, Any], room: int = 0) -> None:
        self.path = Path(path)
        config = json.loads(json.dumps({"robust_snn_run": RUN_FORMAT, **config}))
        self.address = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        self._refuse_other(config)
        self.check_room(room)
        try:
            for name in ("pieces", "locks"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            with self.lock():
                self._refuse_other(config)  # again: another process may have been faster
                self._remove_drafts(self.path, CONFIG)
                write_json(self.path / CONFIG, config)  # again: it shows whether this is possible
            (self.path / "pieces" / ".probe").touch()
            (self.path / "pieces" / ".probe").unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot write a run to '{self.path}': {error.strerror}") from None

    def _stored_config(self) -> dict[str, Any] | None:
        """The configuration in the folder, if it has one."""
        if is_there(self.path, "the run") and not self.path.is_dir():
            raise self._not_a_run("a file")
        if not is_there(self.path / CONFIG):
            if (self.path / "verdict.json").exists():
                raise self._not_a_run("a verdict without its configuration")
            return None
        try:
            found = read_json(self.path / CONFIG, "the configuration")
        except InputError:
            raise self._not_a_run(f"a {CONFIG} that cannot be read") from None
        if not isinstance(found, dict) or "robust_snn_run" not in found:
            raise self._not_a_run(f"a {CONFIG} that belongs to something else")
        return found

    def _not_a_run(self, what: str) -> InputError:
        return InputError(f"'{self.path}' holds {what}; choose another folder")

    def _refuse_other(self, config: dict[str, Any]) -> None:
        found = self._stored_config()
        if found is not None and found != config:
            changes = "; ".join(differences(found, config))
            raise InputError(
                f"'{self.path}' holds a run with another configuration ({changes}); "
                "choose another folder, or start it as it was to go on"
            )

    def check_room(self, room: int) -> None:
        """Raises `InputError` unless the disk has room for results of so many bytes."""
        there = sum(path.stat().st_size for path in (self.path / "pieces").glob("*/*.npz"))
        place = next(p for p in (self.path, *self.path.absolute().parents) if p.is_dir())
        free, needed = shutil.disk_usage(place).free, room - there
        if free < needed:
            raise InputError(
                f"the run may need {needed / 1e9:.3g} GB on the disk of '{self.path}', which has "
                f"{free / 1e9:.3g} GB free; make room, or choose another folder"
            )

    @contextmanager
    def lock_shard(self, shard: int, *, wait: float = 0) -> Iterator[bool]:
        """Locks a shard for this process.

        Args:
            shard: Its number.
            wait: Seconds to wait for another process that has locked it.

        Yields:
            Whether this process has it now.
        """
        with self._locked(f"{shard:05d}", wait) as ours:
            if ours:
                self._remove_drafts(self.path / "pieces", f"{shard:05d}.npz", "*/")
            yield ours

    def lock(self) -> AbstractContextManager[bool]:
        """Locks what belongs to the run as a whole, for as long as it takes."""
        return self._locked("run")

    @contextmanager
    def _locked(self, name: str, wait: float | None = None) -> Iterator[bool]:
        with locked(self._lock_file(name), wait) as ours:
            yield ours

    def _lock_file(self, name: str) -> Path:
        return self.path / "locks" / name

    @staticmethod
    def _remove_drafts(folder: Path, name: str, below: str = "") -> None:
        """Removes the unfinished files that killed processes left; only under the file's lock."""
        for draft in folder.glob(f"{below}.{name}.*"):
            draft.unlink(missing_ok=True)

    def finished(self) -> set[str]:
        """Names of the results that are there."""
        files = (self.path / "pieces").glob("*/[!.]*.npz")
        return {f"{path.parent.name}/{path.stem}" for path in files}

    def load(self, name: str) -> ShardResult | None:
        """A finished result; None if there is none, or the file is damaged or of another run."""
        path = self._file(name)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if str(arrays["address"]) == self.address:
                    return ShardResult.from_arrays(dict(arrays))
                _log.warning("%s belongs to another run and will be made again", path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            _log.warning("%s is damaged and will be made again", path)
        return None

    def save(self, name: str, result: ShardResult) -> None:
        """Stores a result, whole or not at all, whenever the process or the power fails.

        Raises:
            FolderError: If the disk is full or gone.
        """
        arrays: dict[str, Any] = {"address": np.array(self.address), **result.arrays()}
        with self._reported():
            self._file(name).parent.mkdir(exist_ok=True)
            write_whole(self._file(name), lambda file: np.savez(file, **arrays))

    def conclude(self, *writers: Callable[[Path], None]) -> None:
        """Calls the functions that write into the finished run, in one process at a time."""
        with self._reported(), self.lock():
            for name in ("verdict.json", "results.npz", "evidence.npz", "probe.json"):
                self._remove_drafts(self.path, name)
            for write in writers:
                write(self.path)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FolderError(
                f"cannot write to '{self.path}': {error.strerror}; what is finished is safe: "
                "repair this and start the same evaluation again to go on"
            ) from None

    def _file(self, name: str) -> Path:
        return self.path / "pieces" / f"{name}.npz"
