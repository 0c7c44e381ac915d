"""A finished run as it lies in its folder: its verdict, and the predictions that it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.predictions import NAME, Predictions
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.errors import InputError
from robust_snn.utils.places import place

SLACK = 1e-6  # what writing a share as text may cost
Numbers = float | tuple[float, float]
Told = tuple[str, Numbers, Numbers]  # a field of a verdict, what it says, what was counted


def load_run(run: str | Path) -> tuple[Verdict, Predictions]:
    """Reads a run and counts its accuracies and rates again, with their intervals.

    Args:
        run: The folder of a finished run, or its `verdict.json`.

    Raises:
        InputError: If the folder holds no finished run, a file in it is damaged, or the verdict is
            not that of the predictions.
    """
    path = verdict_path(run)
    predictions, verdict = Predictions.load(path.parent), Verdict.load(path)
    check_agreement(verdict, predictions, path)
    return verdict, predictions


def load_verdict(run: str | Path) -> tuple[Verdict, bool]:
    """A verdict, and whether predictions beside it confirm it; see `load_run`."""
    path = verdict_path(run)
    if not (path.parent / NAME).exists():
        return Verdict.load(path), False
    return load_run(path)[0], True


def verdict_path(run: str | Path) -> Path:
    """The verdict of a run, which its folder or the file itself names."""
    run = place(run)
    named = run.suffix == ".json" and not run.is_dir()
    return run if named else run / "verdict.json"


def check_agreement(verdict: Verdict, predictions: Predictions, path: Path) -> None:
    """Raises `InputError` unless the verdict at `path` is that of the predictions."""
    for what, written, counted in chain(
        _sizes(verdict, predictions), _estimates(verdict, predictions)
    ):
        if np.abs(np.subtract(written, counted)).max() > SLACK:
            raise InputError(
                f"'{path}' says {what} is {_shown(written)}, but {NAME} beside it gives "
                f"{_shown(counted)}; start the evaluation again to restore both"
            )


def _sizes(verdict: Verdict, predictions: Predictions) -> Iterator[Told]:
    yield "data.n", verdict.data["n"], len(predictions.labels)
    yield "draws.report", verdict.draws["report"], predictions.clean.shape[1]
    yield "attacks", len(verdict.attacks), len(predictions.attacks)


def _estimates(verdict: Verdict, predictions: Predictions) -> Iterator[Told]:
    """Every accuracy and rate of a verdict, and its interval where the verdict has one."""
    labels = predictions.labels
    clean, worst = (given == labels[:, None] for given in (predictions.clean, predictions.worst))
    parts: dict[str, tuple[Any, dict[str, intervals.Estimate]]] = {
        "clean": (
            verdict.clean,
            {
                "accuracy": intervals.accuracy_estimate(clean),
                "vote": intervals.vote(predictions.clean, labels),
            },
        ),
        "robust": (
            verdict.robust,
            {
                "accuracy": intervals.accuracy_estimate(worst),
                "vote": intervals.vote(predictions.worst, labels),
                "asr": intervals.success_rate(clean, worst),
            },
        ),
    }
    if verdict.robust.known_noise is not None:
        parts["robust"][1]["known_noise"] = intervals.under_known_noise(predictions)
    for number, tried in enumerate(verdict.robust.in_every_try):
        held = intervals.right_in_every_try(worst, tried.tries)
        parts[f"robust.in_every_try[{number}]"] = tried, {"accuracy": held}
    for number, (row, answers) in enumerate(zip(verdict.attacks, predictions.attacks, strict=True)):
        right = answers == labels[:, None]
        estimates = {"accuracy": intervals.accuracy_estimate(right)}
        if number == len(verdict.attacks) - 1:
            estimates["after"] = intervals.accuracy_estimate(worst)
        parts[f"attacks[{number}]"] = row, estimates
    for where, (part, estimates) in parts.items():
        for name, estimate in estimates.items():
            interval = "ci" if name == "accuracy" else f"{name}_ci"
            for field, counted in ((name, estimate.value), (interval, estimate.ci)):
                if (written := getattr(part, field)) is not None:
                    yield f"{where}.{field}", written, counted


def _shown(value: Numbers) -> str:
    return " to ".join(f"{number:.6g}" for number in np.atleast_1d(value))
