"""Finished runs to read, made without attacking anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.eval import Predictions, Verdict
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.verdict import AttackResult, Clean, Robust


def finished_run(
    folder: Path, right: np.ndarray, *, clean: np.ndarray | None = None, **changes: Any
) -> Path:
    """A finished run whose answers are right (class 1) or wrong (class 0), bool `[N, draws]`."""
    clean = np.ones_like(right) if clean is None else clean
    answers = right.astype(np.int16)
    count, draws = right.shape
    results = Predictions(
        labels=np.ones(count, np.int64),
        clean=clean.astype(np.int16),
        worst=answers,
        by=np.zeros(count, np.int16),
        attacks=answers[None],
    )
    robust, vote = intervals.accuracy_estimate(right), intervals.vote(answers, results.labels)
    verdict = Verdict(
        model={"name": folder.name, "kwargs": {}, "weights_sha256": "", "parameters": 1},
        data={"name": "shades", "split": "all", "n": count, "sha256": "abc"},
        threat={"norm": "Linf", "eps": 0.1},
        suite="tiny",
        draws={"select": draws, "report": draws},
        stochastic=draws > 1,
        clean=Clean(
            *intervals.accuracy_estimate(clean), intervals.vote(clean, results.labels).value
        ),
        robust=Robust(*robust, vote.value, intervals.success_rate(clean, right).value),
        attacks=(AttackResult("a", "x", "bptt", 1, *robust, 0.5, 100 * count, 100 * count, 1.0),),
        diagnostics=(),
        environment={},
        seed=0,
        seconds=1.0,
    )
    folder.mkdir()
    replace(verdict, **changes).save(folder / "verdict.json")
    results.save(folder)
    return folder
