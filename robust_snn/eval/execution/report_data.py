"""What a report shows beyond the verdict: which images fell, and what happened inside the net.

A run's pieces hold no labels, and its configuration no weights. So the end of a run, which has
both at hand, measures what a page will show later and leaves it in `evidence.npz`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.diagnostics import gradient_cosines
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.shard_result import ShardResult
from robust_snn.eval.protocol.implementations import view
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.gradients import parse_mode
from robust_snn.metrics import energy, firing_rates, operations, record
from robust_snn.utils.atomic_files import write_whole
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of

FILE = "evidence.npz"
PICTURES = 6  # images that a report shows
SAMPLE = 16  # images whose activity and gradients are measured
MODES = 6  # gradient modes that are compared
DRAWS = 4  # draws that a noisy gradient averages here
OTHER_MODES = ("bptt", "bptt(surrogate=atan(alpha=4))", "bptr")  # met beside those of the suite


@dataclass(frozen=True)
class Pictures:
    """Images that fell, those of the first attacks first. `G` images.

    Attributes:
        ids: Index in the evaluated set, `[G]`.
        clean: `[G, C, H, W]`.
        adversarial: The version that the attack found, `[G, C, H, W]`.
        answers: What the victim says most often of that version, `[G]`.
        attacks: Number of the attack in the suite, `[G]`.
    """

    ids: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    answers: np.ndarray
    attacks: np.ndarray


@dataclass(frozen=True)
class ReportData:
    """What a page shows of a run. `N` images, `L` layers, `M` gradient modes.

    Attributes:
        labels: `[N]`.
        clean: Share of the report draws that are right, without an attack, `[N]`.
        robust: The same for the worst version, `[N]`.
        pictures: Images that fell.
        layers: Names of the spiking layers, `[L]`; empty for a net that is not ours.
        rates: Spikes per neuron and step, on clean and on attacked images, `[2, L]`.
        costs: Spikes, spike operations, multiplications and joules per image, on clean and on
            attacked images, `[2, 4]`.
        modes: Gradient modes, `[M]`.
        cosines: Mean cosine of the input gradients under every two modes, `[M, M]`.
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

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pictures"}
        arrays |= {f"pictures.{f.name}": getattr(self.pictures, f.name) for f in fields(Pictures)}
        write_whole(path, lambda file: np.savez(file, **arrays))

    @classmethod
    def load(cls, path: Path) -> ReportData | None:
        """Reads it; None where there is none, as after older runs.

        Raises:
            InputError: If the file is damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                values: dict[str, Any] = dict(arrays)
            pictures = Pictures(**{f.name: values[f"pictures.{f.name}"] for f in fields(Pictures)})
            rest = {f.name: values[f.name] for f in fields(cls) if f.name != "pictures"}
            return cls(pictures=pictures, **{**rest, "sampled": int(rest["sampled"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"cannot read '{path}': {error}; start the run again") from None


def leave(
    job: Job, results: Predictions, load: Callable[[str], ShardResult | None], run: Path
) -> None:
    """Leaves the evidence of a finished job in its folder, unless it is there already."""
    if not (run / FILE).exists():
        gather(job, results, load).save(run / FILE)


def gather(job: Job, results: Predictions, load: Callable[[str], ShardResult | None]) -> ReportData:
    """Collects and measures what a report shows.

    Args:
        job: The finished job.
        results: The answers to its images.
        load: Gives a piece by its name, with its images.
    """
    labels = results.labels
    answers = (results.clean, results.worst, results.attacks)
    clean, worst, attacks = ((each == labels[:, None]).mean(-1) for each in answers)
    found = _Versions(job, load)
    at = np.flatnonzero(clean > 0.5)[:SAMPLE]
    at = at if len(at) else np.arange(min(SAMPLE, len(labels)))
    layers, rates, costs = _inside(job, at, found.worst(at, results.by))
    modes, cosines = _agreement(job, at) if len(layers) else (np.array([], str), np.empty((0, 0)))
    return ReportData(
        labels,
        clean,
        worst,
        _fallen(job, found, clean, attacks),
        layers,
        rates,
        costs,
        modes,
        cosines,
        len(at),
    )


class _Versions:
    """Adversarial images and the answers to them, out of the pieces that hold them."""

    def __init__(self, job: Job, load: Callable[[str], ShardResult | None]) -> None:
        self.job, self.load = job, cache(load)

    def get(self, attack: int, image: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The version of an image that an attack made, and the answers to it."""
        shard, position = divmod(image, self.job.batch_size)
        piece = self.load(self.job.names(shard)[1 + attack])
        if piece is None or position not in piece.positions:
            return None
        row = int(np.flatnonzero(piece.positions == position)[0])
        return piece.images[row], piece.predictions[row]

    def worst(self, at: np.ndarray, by: np.ndarray) -> Tensor:
        """The hardest version of images, `[len(at), C, H, W]`, which the attacks `by` made."""
        made = [None if by[i] < 0 else self.get(int(by[i]), int(i)) for i in at]
        clean = self.job.images.cpu().numpy()
        rows = [clean[i] if one is None else one[0] for i, one in zip(at, made, strict=True)]
        return torch.from_numpy(np.stack(rows))


def _fallen(job: Job, found: _Versions, clean: np.ndarray, attacks: np.ndarray) -> Pictures:
    """The images that the earliest attacks brought below half, the hardest of an attack first."""
    down = attacks < 0.5
    fell = np.flatnonzero((clean > 0.5) & down.any(0))
    first = down[:, fell].argmax(0)
    order = np.lexsort((fell, attacks[first, fell], first))
    rows: list[tuple[int, np.ndarray, int, int]] = []
    for attack, image in zip(first[order], fell[order], strict=True):
        if len(rows) == PICTURES:
            break
        if (made := found.get(int(attack), int(image))) is not None:
            rows.append((image, made[0], int(np.bincount(made[1]).argmax()), attack))
    ids = np.array([row[0] for row in rows], int)
    empty = np.empty((0, *job.images.shape[1:]), np.float32)
    return Pictures(
        ids,
        job.images.cpu().numpy()[ids],
        np.stack([row[1] for row in rows]) if rows else empty,
        np.array([row[2] for row in rows], int),
        np.array([row[3] for row in rows], int),
    )


def _inside(
    job: Job, at: np.ndarray, attacked: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names of the spiking layers, their rates, and what images cost, clean and attacked."""
    names: list[str] = []
    rates, costs = [], []
    for images in (job.images[torch.from_numpy(at)], attacked):
        runs = [_activity(job, images[i : i + 2], at[i : i + 2]) for i in range(0, len(at), 2)]
        names = list(runs[0][0])
        weights = np.array([len(at[i : i + 2]) for i in range(0, len(at), 2)], float)
        rates.append(np.average([list(r.values()) for r, _ in runs], axis=0, weights=weights))
        costs.append(np.average([cost for _, cost in runs], axis=0, weights=weights))
    return np.array(names, str), np.stack(rates), np.stack(costs)


@torch.no_grad()
def _activity(
    job: Job, images: Tensor, ids: np.ndarray
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Rates of the layers and cost per image of one draw; two images at a time save memory."""
    device = device_of(job.victim)
    with record(job.victim.net) as activity:
        job.victim.sample(images.to(device), torch.from_numpy(ids), purpose="activity")
    if not activity.layers:
        return {}, (0.0, 0.0, 0.0, 0.0)
    done = operations(activity)
    return firing_rates(activity), (done.spikes, done.sops, done.macs, energy(done))


def _agreement(job: Job, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The suite's gradient modes and a few more, and how alike their input gradients are."""
    own = [view(job.victim, row, 0).gradient for row in job.suite.attacks]
    modes = list(dict.fromkeys(map(str, [*own, *map(parse_mode, OTHER_MODES)])))[:MODES]
    rows = torch.from_numpy(at)
    images, labels = job.images[rows], job.labels[rows]
    taken, cosines = gradient_cosines(job.victim, images, labels, modes, seed=job.seed, draws=DRAWS)
    return np.array(taken, str), cosines.numpy()
