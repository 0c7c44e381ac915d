"""What all accepted runs of one network know together: the lowest accuracy of every image."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.verdict import Verdict


@dataclass(frozen=True)
class BestKnown:
    """The lowest accuracy of every image over all accepted runs of one network.

    Attributes:
        accuracy: Its mean over images.
        runs: Number of runs that it is taken over.
        left: Images that are right in most draws after all of them.
        others: Images that this run left, by the run that broke them.
    """

    accuracy: float
    runs: int
    left: tuple[int, ...]
    others: dict[str, tuple[int, ...]]


def best_known(verdicts: Mapping[str, Verdict], accepted: Collection[str]) -> dict[str, BestKnown]:
    """What is best known at every accepted run, by run.

    A noisy network's accuracies are shares of draws, whose minimum over many runs is a little low.

    Args:
        verdicts: Of runs on the same images, by folder.
        accepted: Those with predictions that count.
    """
    networks: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}
    for run in accepted:
        networks.setdefault(network(verdicts[run]), {})[run] = _accuracies(run)
    return {run: _among(same, run) for same in networks.values() for run in same}


def network(verdict: Verdict) -> tuple[Any, ...]:
    """What tells networks apart: weights, and the arguments that they are run with."""
    model = verdict.model
    return model["weights_sha256"], repr(sorted(model.get("kwargs", {}).items()))


def _among(accuracies: Mapping[str, np.ndarray], of: str) -> BestKnown:
    """What is known from the accuracies `[N]` of one network's runs, set against one of them."""
    lowest, own = np.min(list(accuracies.values()), axis=0), accuracies[of]
    others = {
        run: tuple(np.flatnonzero((own >= 0.5) & (values < 0.5)).tolist())
        for run, values in accuracies.items()
    }
    return BestKnown(
        float(lowest.mean()),
        len(accuracies),
        tuple(np.flatnonzero(lowest >= 0.5).tolist()),
        {run: images for run, images in others.items() if images},
    )


def _accuracies(run: str) -> np.ndarray:
    """Share of the report draws that are right on every image's worst version, `[N]`."""
    predictions = load_run(run)[1]
    right: np.ndarray = (predictions.worst == predictions.labels[:, None]).mean(1)
    return right
