"""Measuring what inferences cost, on the clean images and on what every attack made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.shard_result import FinishedShard, ShardResult
from robust_snn.eval.scoring.energy_use import EnergyUse, row_energy
from robust_snn.kernels import derive_seed
from robust_snn.metrics import image_costs
from robust_snn.metrics.image_energy import FORMULA
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim

DRAWS = 5  # of a noisy network, whose costs vary little
TOGETHER = 16  # images that pass together: a record holds the spikes of all layers


def energy_use(
    job: Job,
    shards: Sequence[FinishedShard],
    load: Callable[[str, str], ShardResult | None],
) -> EnergyUse | None:
    """The costs of a finished job with energy attacks; None without.

    Args:
        job: The finished job.
        shards: Its results, without the images.
        load: Gives the stored result of a name, with what identifies its images.

    Raises:
        RuntimeError: If a stored result is gone.
    """
    if not any(row.implementation == "energy" for row in job.suite.attacks):
        return None
    judge = job.victim.replace(seed=derive_seed(job.seed, "score"))
    clean = _costs(judge, job.images)
    rows = [row_energy("none", clean, clean, job.seed)]
    for number, row in enumerate(job.suite.attacks):
        images, changed = job.images.clone(), torch.zeros(len(job.images), dtype=torch.bool)
        for shard, finished in enumerate(shards):
            if finished.attacks[number] is None:
                continue  # no image was left to attack
            result = load(name := job.names(shard)[1 + number], job.identity(shard))
            if result is None:
                raise RuntimeError(f"the result '{name}' is gone; evaluate again")
            at = torch.from_numpy(job.ids(shard)[result.positions])
            images[at] = torch.from_numpy(result.images).to(images)
            changed[at] = True
        costs = clean.copy()
        ids = changed.nonzero()[:, 0]
        if len(ids):
            costs[ids.numpy()] = _costs(judge, images[ids], ids)
        rows.append(row_energy(row.name, costs, clean, job.seed))
    return EnergyUse(FORMULA, tuple(rows))


def _costs(judge: Victim, images: Tensor, ids: Tensor | None = None) -> np.ndarray:
    """Joules, spike operations and steps of images, over draws, `[N, 3]`."""
    ids = torch.arange(len(images)) if ids is None else ids
    draws, device = DRAWS if judge.stochastic else 1, device_of(judge)
    parts = []
    for x, some in zip(images.split(TOGETHER), ids.split(TOGETHER), strict=True):
        each = [image_costs(judge, x.to(device), some.to(device), draw) for draw in range(draws)]
        means = [torch.stack([c[part].double() for c in each]).mean(0) for part in range(3)]
        means[0] = means[0] * 1e-12
        parts.append(torch.stack(means, 1).cpu())
    return torch.cat(parts).numpy()
