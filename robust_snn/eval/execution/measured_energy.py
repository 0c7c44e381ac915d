"""Measuring what inferences cost, on the clean images and on what every attack made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.shard_result import FinishedShard
from robust_snn.eval.scoring.energy_use import EnergyUse, row_energy
from robust_snn.metrics.image_energy import formula_of
from robust_snn.utils.modules import device_of


def energy_use(job: Job, shards: Sequence[FinishedShard]) -> EnergyUse | None:
    """The costs of a finished job with energy attacks; None without.

    Args:
        job: The finished job.
        shards: All its shards, in order.
    """
    if not job.measures_energy:
        return None
    clean = np.concatenate([shard.clean.costs for shard in shards])
    rows = [row_energy("none", clean, clean, job.seed)]
    for number, row in enumerate(job.suite.attacks):
        parts = []
        for shard in shards:
            costs, result = shard.clean.costs.copy(), shard.attacks[number]
            if result is not None:
                costs[result.positions] = result.costs
            parts.append(costs)
        rows.append(row_energy(row.name, np.concatenate(parts), clean, job.seed))
    image = job.images[:1].float().to(device_of(job.victim))
    return EnergyUse(formula_of(job.victim, image), tuple(rows))
