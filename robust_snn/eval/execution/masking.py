"""Signs of a masked gradient, looked for after every run at the cost of a few gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from robust_snn.diagnostics import Diagnostic, cheap
from robust_snn.eval.execution.job import Job
from robust_snn.gradients import parse_mode
from robust_snn.kernels import derive_seed
from robust_snn.utils.modules import device_of

IMAGES = 16


def masking(job: Job, clean: np.ndarray, modes: Iterable[str]) -> list[Diagnostic]:
    """What the cheap diagnostics find under each gradient mode that a run has used.

    Args:
        job: What ran.
        clean: Accuracy of every clean image, `[N]`; the first ones that are right are looked at.
        modes: Gradient modes.
    """
    rows = torch.from_numpy(np.flatnonzero(clean > 0.5)[:IMAGES])
    if not len(rows):
        return []
    device, seed = device_of(job.victim), derive_seed(job.seed, "diagnostics")
    images, labels = job.images[rows].to(device), job.labels[rows].to(device)
    found = []
    for mode in modes:
        variant = job.victim.replace(gradient=mode)
        for note in cheap(variant, images, labels, seed=seed):
            found.append(replace(note, name=f"{note.name} under {parse_mode(mode).brief}"))
    return found
