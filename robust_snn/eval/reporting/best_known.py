"""What all accepted runs of one network know together: the lowest accuracy of every image."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.verdict import Verdict


@dataclass(frozen=True)
class BestKnown:
    """The lowest accuracy of every image over all accepted runs of one network.

    Attributes:
        accuracy: Its mean over images.
        runs: Number of runs that it is taken over.
        left: Images that are right in at least half of the draws after all of them.
        others: Images that this run left, by the run that broke them.
    """

    accuracy: float
    runs: int
    left: tuple[int, ...]
    others: dict[str, tuple[int, ...]]


def best_known(verdicts: Mapping[str, Verdict], accepted: Collection[str]) -> dict[str, BestKnown]:
    """What is best known at every accepted run, by run.

    Args:
        verdicts: Of runs on the same images, by folder.
        accepted: Those with predictions that count.
    """
    networks: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}
    for run in accepted:
        networks.setdefault(network(verdicts[run]), {})[run] = _right(run)
    return {run: _among(same, run) for same in networks.values() for run in same}


def network(verdict: Verdict) -> tuple[Any, ...]:
    """What tells networks apart: weights, and structure; for older verdicts, their arguments."""
    model = verdict.model
    given = [sorted(model.get(key, {}).items()) for key in ("kwargs", "adapt")]
    return model["weights_sha256"], model.get("structure_sha256") or repr(given)


def _among(right: Mapping[str, np.ndarray], of: str) -> BestKnown:
    """What is known from the draws `[N, draws]` of one network's runs, set against one of them."""
    shares = {run: draws.mean(1) for run, draws in right.items()}
    others = {
        run: tuple(np.flatnonzero((shares[of] >= 0.5) & (values < 0.5)).tolist())
        for run, values in shares.items()
    }
    return BestKnown(
        float(intervals.lowest(list(right.values())).mean()),
        len(right),
        tuple(np.flatnonzero(np.min(list(shares.values()), axis=0) >= 0.5).tolist()),
        {run: images for run, images in others.items() if images},
    )


def _right(run: str) -> np.ndarray:
    """Whether each report draw is right on every image's worst version, `[N, draws]`."""
    predictions = load_run(run)[1]
    right: np.ndarray = predictions.worst == predictions.labels[:, None]
    return right
