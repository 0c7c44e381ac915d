"""The adversarial images that a run keeps: of every image the worst version so far.

They lie beside the results, one file per attack and shard, which is written before the attack's
result and holds the worst versions after it, whichever attack made them. Once the result is whole,
the files of the attacks before it go. So a shard takes the room of its images, not of all attacks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from robust_snn.data.exact_differences import MOST, decode, encode, pack, unpack
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.run_folder import VERSIONS, RunFolder
from robust_snn.eval.execution.shard_result import ShardResult, WorstCase
from robust_snn.utils.checked_files import DamagedFile, read_arrays, write_arrays
from robust_snn.utils.errors import InputError, resumable, unknown
from robust_snn.utils.places import is_remote

KEEPS = ("worst", "all", "none")
ANSWER = 64  # bytes of a result per image beside its predictions, about
LOST = "the folder has no adversarial images of {}; start the evaluation again with --keep worst"
Versions: TypeAlias = dict[tuple[int, int], bytes]  # by position in a shard, and row of the suite
_log = logging.getLogger("robust_snn")


def check_keep(keep: str) -> str:
    """Raises `InputError` unless it says which adversarial images a run keeps."""
    if keep not in KEEPS:
        raise unknown("keep", keep, KEEPS)
    return keep


def bytes_needed(job: Job, keep: str) -> int:
    """Bytes that a run may store: its adversarial images, its answers, 1 MiB for the rest."""
    per_image = MOST * 4 * job.images[:1].numel()
    copies = {"worst": 1, "all": len(job.suite.attacks), "none": 0}[keep]
    answers = (len(job.suite.attacks) + 1) * (2 * job.suite.draws.report + ANSWER)
    return round(len(job.images) * (copies * per_image + answers)) + 2**20


class Bound(NamedTuple):
    """What a file of versions belongs to: the run with its attacks, and the images of a shard."""

    address: str
    images: str


def bound_to(job: Job, folder: RunFolder, shard: int) -> Bound:
    """What the versions of a shard belong to."""
    return Bound(folder.piece_address, job.identity(shard))


def read_versions(run: Path, names: Iterable[str], bound: Bound | None = None) -> Versions:
    """The versions in the files of attacks on one shard that are there and sound.

    Args:
        run: Folder of the run.
        names: Names of the attacks' results.
        bound: What they must belong to, if that is known.

    Raises:
        FolderError: If the system does not let one be read.
    """
    found: Versions = {}
    for name in names:
        path = versions_file(run, name)
        try:
            arrays = read_arrays(path)
            if bound is not None and bound.address != str(arrays["address"]):
                raise ValueError("it belongs to another run")
            if bound is not None and bound.images != str(arrays["images"]):
                continue  # the last shard of a run that has grown since
            keys = zip(arrays["positions"].tolist(), arrays["rows"].tolist(), strict=True)
            found |= dict(zip(keys, unpack(arrays), strict=True))
        except FileNotFoundError:
            continue
        except OSError:
            with resumable(run, "evaluation"):
                raise
        except (DamagedFile, KeyError, ValueError, AttributeError) as error:
            _log.warning("'%s' cannot be used: %s", path, error)
    return found


def versions_file(run: Path, name: str) -> Path:
    """Where the folder of a run keeps the adversarial images of an attack."""
    return run / VERSIONS / f"{name}.npz"


class KeptVersions:
    """The adversarial images of one shard, while its attacks follow each other.

    Args:
        job: What is done.
        folder: The folder of the run, which says what is kept.
        shard: Number of the shard.
        clean: The result on its clean images.
    """

    def __init__(self, job: Job, folder: RunFolder, shard: int, clean: ShardResult) -> None:
        self.job, self.folder, self.shard, self.clean = job, folder, shard, clean
        self.bound = bound_to(job, folder, shard)
        self.names = job.names(shard)[1:]
        self._again = False
        self._worst: Versions | None = None  # as long as nothing was read or made

    def images(self, results: Sequence[ShardResult | None], by: np.ndarray) -> np.ndarray:
        """The worst version so far of every image of the shard, `[n, C, H, W]`.

        Args:
            results: What the rows so far came to; None where one did not run.
            by: Row that made the worst version of every image, `[n]`.
        """
        worst = self._clean().copy()
        for (at, _), content in self._present(results, by).items():
            worst[at] = decode(content, worst[at])
        return worst

    def save(
        self, made: ShardResult, results: Sequence[ShardResult | None], by: np.ndarray
    ) -> None:
        """Stores what is kept once an attack is finished; its result is stored after that.

        Args:
            made: What the row after `results` made.
            results: What the rows before it came to.
            by: Row that made the worst version of every image, this row counted, `[n]`.
        """
        row, before = len(results), self._present(results, by)
        self._worst = {**before, **self._encoded(row, made, np.flatnonzero(by == row))}
        every = self.folder.keep == "all"
        self._write(row, self._encoded(row, made, made.positions) if every else self._worst)

    def drop_before(self, row: int) -> None:
        """Drops what the versions of a row, whose result is stored by now, stand for."""
        if self.folder.keep != "all":
            self._drop(self.names[:row])

    def complete(self, results: Sequence[ShardResult | None], by: np.ndarray) -> None:
        """Leaves at the end of a shard what is kept of it; the arguments are those of `images`."""
        ran = [row for row, result in enumerate(results) if result is not None]
        if self.folder.keep == "none":
            self._drop(self.names)
        elif ran:
            worst, last = self._present(results, by), ran[-1]
            there = read_versions(self.folder.path, self.names[last : last + 1], self.bound)
            every = self.folder.keep == "all"
            if not every and not worst.keys() <= there.keys():
                self._write(last, worst)
            elif every and self._again:
                self._write(last, {**there, **worst})
            self.drop_before(last)

    def _present(self, results: Sequence[ShardResult | None], by: np.ndarray) -> Versions:
        """The worst versions that the rows so far made; what is gone or damaged is made again."""
        found = self._worst
        if found is None:
            found = read_versions(self.folder.path, self.names, self.bound)
        wanted = {(at, int(row)) for at, row in enumerate(by) if 0 <= row < len(results)}
        if wanted - found.keys():
            found = {**found, **self._made_again(wanted - found.keys(), results)}
        self._worst = {key: found[key] for key in sorted(wanted) if key in found}
        return self._worst

    def _made_again(
        self, lacking: set[tuple[int, int]], results: Sequence[ShardResult | None]
    ) -> Versions:
        """Versions that are lacking, by the attacks in order: one may start where others ended."""
        _log.warning(
            "adversarial images of shard %d are gone or damaged and will be made again", self.shard
        )
        self._again = True
        found: Versions = {}
        worst, state = self._clean().copy(), WorstCase(self.clean)
        for row in range(max(row for _, row in lacking) + 1):
            stored, spec = results[row], self.job.suite.attacks[row]
            if stored is None:
                continue
            made = self.job.attack(spec, self.shard, stored.positions, worst)
            state.update(stored, row)
            at = np.flatnonzero(state.by == row)
            worst[at] = made.images[np.searchsorted(made.positions, at)]
            lost = np.array(sorted(at for at, of in lacking if of == row), int)
            if np.array_equal(made.predictions, stored.predictions):
                found |= self._encoded(row, made, lost)
            else:
                _log.warning("%s answers otherwise here: its images stay away", spec.name)
        return found

    def _clean(self) -> np.ndarray:
        rows = torch.from_numpy(self.job.ids(self.shard))
        clean: np.ndarray = self.job.images[rows].cpu().numpy()
        return clean

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            versions_file(self.folder.path, name).unlink(missing_ok=True)

    def _encoded(self, row: int, made: ShardResult, at: np.ndarray) -> Versions:
        """What differs in the versions that a row made of the images at some positions."""
        ids = torch.from_numpy(self.job.ids(self.shard)[at])
        clean, rows = self.job.images[ids].cpu().numpy(), np.searchsorted(made.positions, at)
        return {
            (int(position), row): encode(made.images[n], clean[k], self.job.threat.eps)
            for k, (position, n) in enumerate(zip(at, rows, strict=True))
        }

    def _write(self, row: int, versions: Versions) -> None:
        positions, rows = np.array(list(versions), np.int64).reshape(-1, 2).T
        arrays: dict[str, Any] = {"positions": positions, "rows": rows, **self.bound._asdict()}
        path = versions_file(self.folder.path, self.names[row])
        with self.folder.reported():
            if not is_remote(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, {**arrays, **pack(list(versions.values()))})


def worst_images(job: Job, folder: RunFolder, ids: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The worst versions of images at `ids`, `[len(ids), C, H, W]`.

    Args:
        job: The finished job.
        folder: The folder of the run.
        ids: Indices in the evaluated set.
        by: Row that made the worst version of each; -1 where that is the clean image.

    Raises:
        InputError: If the folder has not kept one.
    """
    worst = job.images[torch.from_numpy(ids)].cpu().numpy().copy()
    shards, positions = np.divmod(ids, job.batch_size)
    for shard in np.unique(shards[by >= 0]).tolist():  # one after the other: they are large
        bound = bound_to(job, folder, shard)
        versions = read_versions(folder.path, job.names(shard)[1:], bound)
        for place in np.flatnonzero((shards == shard) & (by >= 0)):
            content = versions.get((int(positions[place]), int(by[place])))
            if content is None:
                raise InputError(LOST.format(f"image {ids[place]}"))
            worst[place] = decode(content, worst[place])
    return worst
