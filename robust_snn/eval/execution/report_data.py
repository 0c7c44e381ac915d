"""What a report shows beyond the verdict: misclassified images, and activity and gradients.

The results in a run's folder hold no labels, and its configuration no weights. So the end of a run,
which has both, measures what a page will show later and saves it as `evidence.npz`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from robust_snn.diagnostics import gradient_cosines
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shard_result import ShardResult
from robust_snn.eval.protocol.implementations import attacked_victim
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.spiking_activity import SpikingActivity, spiking_activity
from robust_snn.gradients import parse_mode
from robust_snn.utils.checked_files import read_arrays, write_arrays
from robust_snn.utils.errors import InputError, first_line
from robust_snn.utils.modules import device_of

T = TypeVar("T")
_log = logging.getLogger("robust_snn")
REPORT_DATA_FILE = "evidence.npz"
PICTURES = 6  # images that a report shows
SAMPLE = 16  # images whose activity and gradients are measured
COMPARED_MODES = 6  # gradient modes that are compared
GRADIENT_DRAWS = 4  # draws that a noisy gradient averages here
OTHER_MODES = ("bptt", "bptt(surrogate=atan(alpha=4))", "bptr")  # compared with the suite's


@dataclass(frozen=True)
class Pictures:
    """Misclassified images, those of the first attacks first. `G` images.

    Attributes:
        ids: Index in the evaluated set, `[G]`.
        clean: `[G, C, H, W]`.
        adversarial: The version that the attack found, `[G, C, H, W]`.
        answers: The class that the victim predicts most often for that version, `[G]`.
        attacks: Number of the attack in the suite, `[G]`.
    """

    ids: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    answers: np.ndarray
    attacks: np.ndarray


@dataclass(frozen=True)
class ReportData:
    """What a report shows of a run. `N` images, `L` layers, `M` gradient modes.

    Attributes:
        labels: `[N]`.
        clean: Share of the report draws that are right, without an attack, `[N]`.
        robust: The same for the worst version, `[N]`.
        pictures: Misclassified images.
        layers: Names of the spiking layers, `[L]`; empty where no neuron is ours.
        rates: Spikes per neuron and step, on clean and on attacked images, `[2, L]`.
        costs: Spikes, spike operations, multiplications and joules per image, on clean and on
            attacked images, `[2, 4]`.
        modes: Gradient modes, `[M]`; those that reach no neuron are `own`, all together.
        cosines: Mean cosine of the input gradients under every two modes, `[M, M]`; NaN where they
            are bitwise the same.
        sampled: Images that activity and gradients are measured on.
    """

    labels: np.ndarray
    clean: np.ndarray
    robust: np.ndarray
    pictures: Pictures
    layers: np.ndarray
    rates: np.ndarray
    costs: np.ndarray
    modes: np.ndarray
    cosines: np.ndarray
    sampled: int

    def save(self, path: Path, address: str = "") -> None:
        """Writes it, whole or not at all, with the address of its run."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pictures"}
        arrays |= {f"pictures.{f.name}": getattr(self.pictures, f.name) for f in fields(Pictures)}
        write_arrays(path, {**arrays, "address": address})

    @classmethod
    def load(cls, path: Path, address: str | None = None) -> ReportData | None:
        """Reads it; None where there is none, as after older runs.

        Args:
            path: The file.
            address: Of the run that it must belong to, if that is known.

        Raises:
            InputError: If the file is damaged, or another run's.
        """
        try:
            values: dict[str, Any] = read_arrays(path, digested=address is not None)
            if address is not None and str(values["address"]) != address:
                raise ValueError("it belongs to another run")
            pictures = Pictures(**{f.name: values[f"pictures.{f.name}"] for f in fields(Pictures)})
            rest = {f.name: values[f.name] for f in fields(cls) if f.name != "pictures"}
            return cls(pictures=pictures, **{**rest, "sampled": int(rest["sampled"])})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read '{path}': {error}; start the run again") from None


def save_report_data(
    job: Job,
    predictions: Predictions,
    folder: RunFolder,
    run: Path,
) -> None:
    """Saves the report data of a finished job in its folder, unless they are there and sound.

    A page is no reason to lose a verdict: what cannot be measured or written is a line in the log.

    Args:
        job: The finished job.
        predictions: The predictions on its images.
        folder: The folder of the run, with the stored results.
        run: Its path.
    """
    path = run / REPORT_DATA_FILE
    try:
        if ReportData.load(path, folder.piece_address) is not None:
            return
    except InputError as error:
        _log.warning("made again: %s", error)
    try:
        measure(job, predictions, folder.load).save(path, folder.piece_address)
    except Exception as error:  # whatever a network of other people does, or a full disk
        _log.warning("the report shows the verdict alone: %s", first_line(error))


def measure(
    job: Job, predictions: Predictions, load: Callable[[str], ShardResult | None]
) -> ReportData:
    """Collects and measures what a report shows; the arguments are those of `save_report_data`."""
    labels = predictions.labels
    given = (predictions.clean, predictions.worst, predictions.attacks)
    clean, worst, attacks = ((each == labels[:, None]).mean(-1) for each in given)
    versions = _Versions(job, load)
    at = np.flatnonzero(clean > 0.5)[:SAMPLE]
    at = at if len(at) else np.arange(min(SAMPLE, len(labels)))
    device = device_of(job.victim)
    both = (job.images[torch.from_numpy(at)], versions.worst(at, predictions.by))
    inside = _or_empty(
        "activity",
        lambda: [spiking_activity(job.victim, images.to(device), at) for images in both],
        [SpikingActivity.none()] * 2,
    )
    layers = inside[0].layers
    empty = np.array([], str), np.empty((0, 0))
    modes, cosines = _or_empty("gradient modes", lambda: _agreement(job, at), empty)
    return ReportData(
        labels,
        clean,
        worst,
        _misclassified(job, versions, clean, attacks),
        layers,
        np.stack([activity.rates for activity in inside]),
        np.stack([activity.costs for activity in inside]),
        modes,
        cosines,
        len(at),
    )


def _or_empty(what: str, measure: Callable[[], T], empty: T) -> T:
    """What was measured; `empty`, with a log line, where that fails."""
    try:
        return measure()
    except Exception as error:  # whatever a network of other people does
        _log.warning("the report shows no %s: %s", what, first_line(error))
        return empty


class _Versions:
    """Adversarial images and the predictions on them, out of the stored results."""

    def __init__(self, job: Job, load: Callable[[str], ShardResult | None]) -> None:
        self.job, self.load = job, cache(load)

    def get(self, attack: int, image: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The version of an image that an attack made, and the predictions on it, `[report]`."""
        shard, position = divmod(image, self.job.batch_size)
        result = self.load(self.job.names(shard)[1 + attack])
        if result is None or position not in result.positions:
            return None
        row = int(np.flatnonzero(result.positions == position)[0])
        return result.images[row], result.predictions[row]

    def worst(self, at: np.ndarray, by: np.ndarray) -> Tensor:
        """The hardest version of images, `[len(at), C, H, W]`, which the attacks `by` made."""
        made = [None if by[i] < 0 else self.get(int(by[i]), int(i)) for i in at]
        clean = self.job.images.cpu().numpy()
        rows = [clean[i] if one is None else one[0] for i, one in zip(at, made, strict=True)]
        return torch.from_numpy(np.stack(rows))


def _misclassified(
    job: Job, versions: _Versions, clean: np.ndarray, attacks: np.ndarray
) -> Pictures:
    """The images that the earliest attacks brought below half, the hardest of an attack first.

    Args:
        job: The finished job.
        versions: The adversarial images.
        clean: Accuracy of every clean image on the report draws, `[N]`.
        attacks: The same under each attack alone, `[attacks, N]`.
    """
    broken = attacks < 0.5
    images = np.flatnonzero((clean > 0.5) & broken.any(0))
    first = broken[:, images].argmax(0)
    order = np.lexsort((images, attacks[first, images], first))
    rows: list[tuple[int, np.ndarray, int, int]] = []
    for attack, image in zip(first[order], images[order], strict=True):
        if len(rows) == PICTURES:
            break
        if (version := versions.get(int(attack), int(image))) is not None:
            rows.append((image, version[0], int(np.bincount(version[1]).argmax()), attack))
    ids = np.array([row[0] for row in rows], int)
    empty = np.empty((0, *job.images.shape[1:]), np.float32)
    return Pictures(
        ids,
        job.images.cpu().numpy()[ids],
        np.stack([row[1] for row in rows]) if rows else empty,
        np.array([row[2] for row in rows], int),
        np.array([row[3] for row in rows], int),
    )


def _agreement(job: Job, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The suite's gradient modes and a few more, `[M]`, and the mean cosines of their input
    gradients, `[M, M]`."""
    own = [attacked_victim(job.victim, row, 0).gradient for row in job.suite.attacks]
    modes = list(dict.fromkeys(map(str, [*own, *map(parse_mode, OTHER_MODES)])))[:COMPARED_MODES]
    rows = torch.from_numpy(at)
    images, labels = job.images[rows], job.labels[rows]
    taken, cosines = gradient_cosines(
        job.victim, images, labels, modes, seed=job.seed, draws=GRADIENT_DRAWS
    )
    return np.array(taken, str), cosines.numpy()
