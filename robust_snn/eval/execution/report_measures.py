"""Measuring what a report shows beyond the verdict, at the end of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_snn.attacks.norm_ball import BALL_NORMS
from robust_snn.diagnostics import gradient_cosines
from robust_snn.diagnostics.attack_sanity import Curves, ShortAttacks, accuracy_over_steps
from robust_snn.diagnostics.margin_curve import margin_curve
from robust_snn.diagnostics.stochasticity import eot_convergence
from robust_snn.eval.execution.adaptive_suite import probe_record
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.kept_versions import worst_images
from robust_snn.eval.execution.report_data import (
    REPORT_DATA_FILE,
    Masking,
    Pictures,
    Raster,
    ReportData,
)
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.summary import Summary
from robust_snn.eval.protocol.implementations import attacked_victim
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.spiking_activity import SpikingActivity, spike_raster, spiking_activity
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import InputError, first_line
from robust_snn.utils.modules import device_of
from robust_snn.utils.optional_work import Attempts

_log = logging.getLogger("robust_snn")
PICTURES = 6  # images that a report shows
SAMPLE = 16  # images whose activity and gradients are measured
COMPARED_MODES = 6  # gradient modes that are compared
GRADIENT_DRAWS = 4  # draws that a noisy gradient averages here
FEW = 8  # images of a noisy network on which convergence is measured
PASSES, NOISY_PASSES = 60, 750  # that convergence takes per image, about
SHARE = 0.1  # of a run's passes, which convergence may cost
OTHER_MODES = ("bptt", "bptt(surrogate=atan(alpha=4))", "bptr")  # compared with the suite's


def save_report_data(job: Job, summary: Summary, folder: RunFolder, run: Path) -> None:
    """Saves the report data of a finished job in its folder, unless they are there and sound.

    A page is no reason to lose a verdict: what cannot be measured or written is a line in the log,
    and on the page.

    Args:
        job: The finished job.
        summary: Its numbers.
        folder: The folder of the run, with the stored results.
        run: Its path.
    """
    path = run / REPORT_DATA_FILE
    try:
        if ReportData.load(path, folder.whole_address) is not None:
            return
    except InputError as error:
        _log.warning("made again: %s", error)
    try:
        measure(job, summary, folder).save(path, folder.whole_address)
    except Exception as error:  # whatever a network of other people does, or a full disk
        _log.warning("the report shows the verdict alone: %s", first_line(error))


def measure(job: Job, summary: Summary, folder: RunFolder) -> ReportData:
    """Collects and measures what a report shows; the arguments are those of `save_report_data`."""
    predictions, attempt = summary.predictions, Attempts()
    labels = predictions.labels
    given = (predictions.clean, predictions.worst)
    clean, worst = ((each == labels[:, None]).mean(-1) for each in given)
    at = np.flatnonzero(clean > 0.5)[:SAMPLE]
    at = at if len(at) else np.arange(min(SAMPLE, len(labels)))
    device = device_of(job.victim)

    def activity() -> list[SpikingActivity]:
        hardest = torch.from_numpy(worst_images(job, folder, at, predictions.by[at]))
        both = (job.images[torch.from_numpy(at)], hardest)
        return [spiking_activity(job.victim, images.to(device), at) for images in both]

    def pictures(right: bool) -> Pictures:
        """Images that are still right, the nearest to wrong first; or broken ones, in order."""
        ids = np.flatnonzero((clean > 0.5) & ((worst >= 0.5) == right))
        ids = ids[np.lexsort((worst[ids], np.zeros(len(ids)) if right else predictions.by[ids]))]
        return _pictures(job, folder, predictions, ids)

    inside = attempt("Spikes and energy", activity, [SpikingActivity.none()] * 2)
    broken = attempt("Broken images", lambda: pictures(False), Pictures.none())
    survivors = attempt("Images that no attack broke", lambda: pictures(True), Pictures.none())
    empty = np.array([], str), np.empty((0, 0))
    modes, cosines = attempt("Agreement of gradient modes", lambda: _agreement(job, at), empty)
    raster = attempt(
        "Spikes of one image", lambda: _raster(job, (broken, survivors)), Raster.none()
    )
    masking = _masking(job, summary, at, folder, attempt)
    return ReportData(
        labels=labels,
        clean=clean,
        robust=worst,
        pictures=broken,
        survivors=survivors,
        raster=raster,
        masking=masking,
        layers=inside[0].layers,
        rates=np.stack([activity.rates for activity in inside]),
        costs=np.stack([activity.costs for activity in inside]),
        modes=modes,
        cosines=cosines,
        sampled=len(at),
        missing=np.array(attempt.missing, str).reshape(-1, 2),
    )


def _pictures(job: Job, folder: RunFolder, predictions: Predictions, ids: np.ndarray) -> Pictures:
    """The first of some images, with the worst version of each."""
    if not len(ids):
        return Pictures.none()
    ids = ids[:PICTURES]
    by = predictions.by[ids]
    answers = [int(np.bincount(predictions.worst[image]).argmax()) for image in ids]
    clean = job.images[torch.from_numpy(ids)].cpu().numpy()
    return Pictures(ids, clean, worst_images(job, folder, ids, by), np.array(answers, int), by)


def _raster(job: Job, shown: Sequence[Pictures]) -> Raster:
    """Spikes on the first image that a report shows and that an attack has changed."""
    for pictures in shown:
        for n in np.flatnonzero(pictures.attacks >= 0)[:1]:
            image = int(pictures.ids[n])
            pair = np.stack([pictures.clean[n], pictures.adversarial[n]])
            device = device_of(job.victim)
            return Raster(
                image, *spike_raster(job.victim, torch.from_numpy(pair).to(device), image)
            )
    raise InputError("no attack has changed an image")


def _masking(
    job: Job, summary: Summary, at: np.ndarray, folder: RunFolder, attempt: Attempts
) -> Masking:
    """The margin along the gradient that the first attack followed, convergence, and the probe."""
    found = Masking.none()
    probe = None if job.suite.budget is None else probe_record(folder)
    if probe is not None:
        found = replace(
            found,
            tried=np.array(list(probe["accuracies"]), str),
            tried_accuracies=np.array(list(probe["accuracies"].values()), float),
            tried_images=int(probe["cost"]["images"]),
        )
    if not job.suite.attacks:
        return found
    mode = attacked_victim(job.attacked, job.suite.attacks[0], 0).gradient_in_force
    victim, rows = job.attacked.replace(gradient=mode), torch.from_numpy(at)
    of = victim, job.images[rows], job.labels[rows]
    threat: dict[str, Any] = {"eps": job.threat.eps, "norm": job.threat.norm, "seed": job.seed}

    def along() -> np.ndarray:
        _check_ball(job)
        curve = margin_curve(*of, **threat)
        return np.array([curve.distances, curve.along, curve.promised, curve.random])

    def convergence() -> Curves:
        _check_ball(job)
        images = FEW if victim.stochastic else SAMPLE
        cost = images * (NOISY_PASSES if victim.stochastic else PASSES)
        spent = sum(row.forwards + row.backwards for row in summary.attacks)
        if cost > SHARE * spent:
            raise InputError("it costs more than a tenth of this run; robust-snn diagnose does it")
        some = victim, of[1][:images], of[2][:images]
        curves: Curves = {}
        accuracy_over_steps(ShortAttacks(*some, **threat, curves=curves))
        eot_convergence(*some, seed=job.seed, curves=curves)
        return curves

    none: Curves = {}
    curves = attempt("Convergence over steps and noise draws", convergence, none)
    steps, draws = (np.array(sorted(curves.get(key, {}).items())).T for key in ("steps", "draws"))
    return replace(
        found,
        gradient=str(mode),
        margin=attempt("Margin along the gradient", along, found.margin),
        steps=steps if steps.size else found.steps,
        draws=draws if draws.size else found.draws,
    )


def _check_ball(job: Job) -> None:
    if job.threat.norm not in BALL_NORMS or not job.threat.eps > 0:
        raise InputError(f"it is defined in {' and '.join(BALL_NORMS)} for a positive radius alone")


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
