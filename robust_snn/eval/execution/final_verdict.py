"""The verdict of a finished run: its numbers, and signs that they mean less than they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.diagnostics import (
    Diagnostic,
    clean_accuracy,
    measure_or_warn,
    reached_neurons,
)
from robust_snn.eval.execution.certified_images import CertifiedImages
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.preflight import Preflight
from robust_snn.eval.execution.run_record import environment
from robust_snn.eval.execution.summary import Summary
from robust_snn.eval.protocol.implementations import OWN_BOUNDS
from robust_snn.eval.scoring import gradient_checks, verdict_checks
from robust_snn.eval.scoring.larger_budget import LargerBudget, larger_budget
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.foreign.identity import structure_sha256
from robust_snn.kernels import derive_seed
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim

DIAGNOSED = 16  # images on which the gradient is checked for signs of masking
FEWEST = 4  # survivors that can tell something


def verdict_of(
    checked: Preflight,
    config: Mapping[str, Any],
    summary: Summary,
    proven: CertifiedImages | None,
) -> Verdict:
    """The verdict of a run whose shards are finished.

    Args:
        checked: What was checked before the first attack.
        config: The record of what is evaluated.
        summary: What the shards come to.
        proven: Images that are certified, if certificates were given.

    Raises:
        CertificateContradicted: If an attack broke one of these.
    """
    job, predictions = checked.job, summary.predictions
    right = (predictions.worst == predictions.labels[:, None]).all(1)
    certified = None if proven is None else proven.bracket(right)
    assert job.digests is not None
    used = {row.implementation for row in job.suite.attacks}
    bounded = bool(used) and used <= OWN_BOUNDS
    return Verdict(
        model={**config["model"], "structure_sha256": structure_sha256(config["victim"])},
        data=config["data"],
        threat=config["threat"],
        suite=job.suite.name,
        draws=asdict(job.suite.draws),
        stochastic=checked.stochastic,
        clean=summary.clean,
        robust=summary.robust,
        attacks=summary.attacks,
        diagnostics=(
            *checked.diagnostics,
            *clean_accuracy(summary.clean.accuracy, checked.classes),
            *verdict_checks.copies(job.digests.images),
            *verdict_checks.same_answer(predictions.clean, predictions.labels),
            *verdict_checks.reach(job.threat, bounded),
            *summary.diagnostics,
            *([] if proven is None else proven.missed(right)),
            *_masking(job, summary),
        ),
        environment=environment(job),
        seed=job.seed,
        seconds=summary.seconds + (0.0 if checked.probe is None else checked.probe.seconds),
        probe=checked.probe,
        certified=certified,
        larger_budget=_larger_budget(job, summary),
    )


def _larger_budget(job: Job, summary: Summary) -> LargerBudget | None:
    """What a larger budget would break, where the attacks follow each other."""
    if job.suite.independent or any(row.after is None for row in summary.attacks):
        return None
    left = [summary.clean.accuracy, *(row.after or 0.0 for row in summary.attacks)]
    passes = [row.forwards + row.backwards for row in summary.attacks]
    return larger_budget(left, passes, len(job.labels)) if any(passes) else None


def _masking(job: Job, summary: Summary) -> list[Diagnostic]:
    """Signs of a masked gradient on images that are right without an attack, and with all."""
    right, left = summary.clean_select > 0.5, summary.worst_select > 0.5
    first = np.flatnonzero(right)[:DIAGNOSED]
    seed = derive_seed(job.seed, "diagnostics")

    def some(rows: np.ndarray) -> tuple[Victim, Tensor, Tensor]:
        at, device = torch.from_numpy(rows), device_of(job.victim)
        return job.attacked, job.images[at].to(device), job.labels[at].to(device)

    if not len(first):
        of = some(np.arange(min(DIAGNOSED, len(job.images))))
        return measure_or_warn("reached neurons", partial(reached_neurons, *of, seed=seed))
    notes = measure_or_warn(
        "gradient masking",
        partial(
            gradient_checks.gradient_masking, *some(first), summary.modes, job.threat, seed=seed
        ),
    )
    kept_of_all = np.flatnonzero(right & left)
    kept = kept_of_all[-DIAGNOSED:]  # the last, since the first were looked at
    if len(kept) < FEWEST:
        return notes
    survivors, share = some(kept), len(kept_of_all) / int(right.sum())
    notes += gradient_checks.left_out_on_survivors(
        *survivors, summary.modes, job.threat, share, seed=seed
    )
    if set(kept) == set(first):
        return notes
    on_kept = gradient_checks.follows_margin(*survivors, summary.modes, job.threat, seed=seed)
    return notes + gradient_checks.on_survivors(on_kept, share)
