"""The folder of a run: one file per finished attack and shard, written whole or not at all.

Any number of processes may work into one folder. A shard belongs to the process that has locked it;
the system unlocks what a dead process had locked. Locks only save work: a result is the same
whoever computes it, so nothing is wrong where the file system has none. Where the folder is a URL,
claims stand for locks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from robust_snn.eval.execution.grown_run import CONFIG, IMAGES, grown, outgrown, without_images
from robust_snn.eval.execution.lease import leased
from robust_snn.eval.execution.shard_result import ShardResult
from robust_snn.foreign.identity import changes, without_behaviour
from robust_snn.utils.atomic_files import remove_drafts
from robust_snn.utils.checked_files import (
    DamagedFile,
    read_arrays,
    read_record,
    write_arrays,
    write_record,
)
from robust_snn.utils.errors import InputError, resumable
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.folder_lock import locked
from robust_snn.utils.places import is_remote, place
from robust_snn.utils.user_files import is_there

_log = logging.getLogger("robust_snn")
RUN_FORMAT = 7  # of the files in a run's folder; another one is refused, not misread
PIECES, VERSIONS, LOCKS = "pieces", "versions", "locks"
SHOWN = 8  # differences between two runs that a message names


class RunFolder:
    """A folder that holds one configuration and the results finished under it.

    Args:
        path: The folder, or its URL; made if it is not there.
        config: Everything that the numbers depend on, as JSON values.
        room: Bytes that the results of the whole run may take.
        keep: Which adversarial images are kept: `"worst"`, `"all"` or `"none"`.

    Attributes:
        address: Digest of the configuration, without its images and the answers that it holds.
        piece_address: Digest of that and of the attacks that were chosen; every result bears it.
        dropped_rows: Numbers of the rows that the first shards have shown to find nothing; None as
            long as this process has not looked.

    Raises:
        InputError: If the folder holds another configuration or something else, is not writable,
            or its disk has not enough room.
    """

    def __init__(
        self, path: str | Path, config: dict[str, Any], room: int = 0, keep: str = "worst"
    ) -> None:
        self.path = place(path)
        config = json.loads(json.dumps({"robust_snn_run": RUN_FORMAT, **config}))
        self.config, self.keep = config, keep
        self.address = self.piece_address = _digest(without_images(without_behaviour(config)))
        self.dropped_rows: Collection[int] | None = None
        self._agreed(config)
        self.check_room(room)
        try:
            if not is_remote(self.path):
                for name in (PIECES, VERSIONS, LOCKS):
                    (self.path / name).mkdir(parents=True, exist_ok=True)
                (self.path / PIECES / ".probe").touch()
                (self.path / PIECES / ".probe").unlink(missing_ok=True)
            with self.lock():
                config = self._agreed(config)  # again: another process may have been faster
                self._remove_outgrown(config)
                write_record(self.path / CONFIG, config)  # again: it shows whether this is possible
        except OSError as error:
            raise InputError(f"cannot write a run to '{self.path}': {error.strerror}") from None

    def bind(self, attacks: Any) -> None:
        """From now on, results belong to these attacks too, JSON values that a probe has chosen."""
        self.piece_address = _digest([self.address, attacks])

    @property
    def whole_address(self) -> str:
        """Digest of everything that the numbers of the whole run depend on, its images too."""
        return _digest([self.piece_address, self.config.get("data")])

    def _remove_outgrown(self, config: dict[str, Any]) -> None:
        """Removes results that look finished, though the run has grown and their shard with it."""
        with suppress(FileNotFoundError, DamagedFile):
            shard = outgrown(read_record(self.path / CONFIG), config)
            for piece in () if shard is None else (self.path / PIECES).glob(f"*/{shard:05d}.npz"):
                piece.unlink(missing_ok=True)

    def _agreed(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration as the folder holds it, or the given one if it holds none.

        That of a run with fewer of the same images becomes that of this one.
        """
        if is_there(self.path, "the run") and not self.path.is_dir():
            raise self._not_a_run("a file")
        try:
            found = read_record(self.path / CONFIG)
        except FileNotFoundError:
            if (self.path / "verdict.json").exists():
                raise self._not_a_run("a verdict without its configuration") from None
            return config
        except DamagedFile:
            return self._repaired(config)
        if found.get("robust_snn_run") != RUN_FORMAT:
            raise self._not_a_run("a run of another version of robust_snn")
        found = grown(found, config)
        if changed := changes(_short(found), _short(config)):
            more = [f"and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
            raise InputError(
                f"'{self.path}' holds a run with another configuration "
                f"({'; '.join([*changed[:SHOWN], *more])}); "
                "choose another folder, or start it as it was to resume"
            )
        return found

    def _repaired(self, config: dict[str, Any]) -> dict[str, Any]:
        """The given configuration in place of a damaged one, whose results are those of this run.

        Raises:
            InputError: If they are not, or there is none.
        """
        try:
            tree = read_json(self.path / CONFIG, "the configuration")
            version = tree.get("robust_snn_run") if isinstance(tree, dict) else None
        except InputError:
            version = None
        for piece in (self.path / PIECES).glob("*/[!.]*.npz"):
            try:
                if str(read_arrays(piece)["run"]) == self.address:
                    _log.warning("%s is damaged and will be made again", self.path / CONFIG)
                    return config
            except (OSError, DamagedFile, KeyError):
                continue
        if isinstance(version, int) and version < RUN_FORMAT:
            raise self._not_a_run("a run of an earlier version of robust_snn")
        raise self._not_a_run(f"a {CONFIG} that cannot be read or belongs to something else")

    def _not_a_run(self, what: str) -> InputError:
        return InputError(f"'{self.path}' holds {what}; choose another folder")

    def check_room(self, room: int) -> None:
        """Raises `InputError` unless the disk has room for results of so many bytes."""
        if is_remote(self.path):
            return  # nobody says how much room there is
        stored = [self.path.glob(f"{part}/*/*.npz") for part in (PIECES, VERSIONS)]
        there = sum(path.stat().st_size for path in chain(*stored))
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

        Raises:
            FolderError: If its file is something that no process can lock.
        """
        with ExitStack() as held:
            with self.reported():
                ours = held.enter_context(self._locked(f"{shard:05d}", wait))
            yield ours

    def lock(self) -> AbstractContextManager[bool]:
        """Locks what belongs to the run as a whole, for as long as it takes."""
        return self._locked("run")

    @contextmanager
    def _locked(self, name: str, wait: float | None = None) -> Iterator[bool]:
        claim = leased if is_remote(self.path) else locked
        with claim(self.lock_file(name), wait) as ours:
            yield ours

    def lock_file(self, name: str) -> Path:
        """The file that a process locks for a part of the run: `run`, or the number of a shard."""
        return self.path / LOCKS / name

    def finished(self) -> set[str]:
        """Names of the results that are there."""
        files = (self.path / PIECES).glob("*/[!.]*.npz")
        return {f"{path.parent.name}/{path.stem}" for path in files}

    def load(
        self, name: str, of: str = "", flaw: Callable[[ShardResult], str | None] | None = None
    ) -> ShardResult | None:
        """A finished result; None if there is none, or it is not what it should be.

        Args:
            name: Its name.
            of: What identifies its images.
            flaw: Says what is wrong with a result, if something is.

        Raises:
            FolderError: If the system does not let it be read.
        """
        path = self._file(name)
        try:
            arrays = read_arrays(path)
            bound = tuple(str(arrays[key]) for key in ("address", "name", "of"))
            result = ShardResult.from_arrays(arrays)
        except FileNotFoundError:
            return None
        except OSError:
            with self.reported():
                raise
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("%s is damaged and will be made again: %s", path, error)
            return None
        if bound[:2] != (self.piece_address, name):
            whose = "run" if bound[0] != self.piece_address else "part of the run"
            _log.warning("%s belongs to another %s and will be made again", path, whose)
            return None
        if bound[2] != of:  # the last shard of a run that has grown since
            _log.info("%s is of other images and will be made again", path)
            return None
        if flaw is not None and (what := flaw(result)) is not None:
            _log.warning("%s is not as it should be and will be made again: %s", path, what)
            return None
        return result

    def save(self, name: str, result: ShardResult, of: str = "") -> None:
        """Stores a result, whole or not at all, whenever the process or the power fails.

        Args:
            name: Its name.
            result: The result.
            of: What identifies its images.

        Raises:
            FolderError: If the disk is full or gone.
        """
        bound = {"run": self.address, "address": self.piece_address, "name": name, "of": of}
        with self.reported():
            if not is_remote(self.path):
                self._file(name).parent.mkdir(exist_ok=True)
            write_arrays(self._file(name), {**result.arrays(), **bound})

    def conclude(self, *writers: Callable[[Path], None]) -> None:
        """Calls the functions that write into the finished run, in one process at a time."""
        with self.reported(), self.lock():
            self._agreed(self.config)  # again: another process may have let the run grow
            inside = (self.path.glob(f"{part}/*/") for part in (PIECES, VERSIONS))
            for place in (self.path, *chain(*inside)):
                remove_drafts(place)
            for write in writers:
                write(self.path)

    def reported(self) -> AbstractContextManager[None]:
        """Turns an error of the disk into one that says how to go on."""
        return resumable(self.path, "evaluation")

    def _file(self, name: str) -> Path:
        return self.path / PIECES / f"{name}.npz"


def _short(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the digests of single images, which tell a person nothing."""
    return {key: value for key, value in config.items() if key != IMAGES}


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
