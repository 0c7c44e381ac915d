"""Two finished runs on the same images: what differs, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.verdict import Interval, Verdict
from robust_snn.utils.errors import InputError


@dataclass(frozen=True)
class Difference:
    """One quantity of two runs.

    Attributes:
        what: Its name.
        first: Its value in the first run.
        second: Its value in the second run.
        change: Second minus first.
        ci: 95 % interval of the change; the images are paired.
        p: McNemar's exact p-value, where an image is either right or wrong; None elsewhere.
    """

    what: str
    first: float
    second: float
    change: float
    ci: Interval
    p: float | None


@dataclass(frozen=True)
class Comparison:
    """Differences between two verdicts, and what to keep in mind when reading them."""

    first: Verdict
    second: Verdict
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compares the runs in two folders image by image.

    Raises:
        InputError: If a folder holds no finished run, or a verdict that is not that of its
            predictions, or the runs attacked different images or under different threat models.
    """
    verdicts, predictions = zip(*map(load_run, (first, second)), strict=True)
    for part, key in (("data", "sha256"), ("threat", "norm"), ("threat", "eps")):
        ours, theirs = (getattr(verdict, part)[key] for verdict in verdicts)
        if ours != theirs:
            raise InputError(
                f"'{first}' and '{second}' cannot be compared: {part}.{key} is {ours!s:.16} in one "
                f"and {theirs!s:.16} in the other; evaluate both on the same images and threat"
            )
    before, after = verdicts
    differences = tuple(_differences(verdicts, predictions))
    return Comparison(before, after, differences, tuple(_notes(verdicts)))


def _differences(
    verdicts: tuple[Verdict, ...], predictions: tuple[Predictions, ...]
) -> list[Difference]:
    differences = []
    for name, which in (("clean", "clean"), ("robust", "worst")):
        given = [(getattr(run, which), run.labels) for run in predictions]
        shares = [(predicted == labels[:, None]).mean(1) for predicted, labels in given]
        differences.append(_difference(f"{name} accuracy", *shares))
        if any(verdict.stochastic for verdict in verdicts):
            won = [intervals.elected(*pair).astype(float) for pair in given]
            differences.append(_difference(f"{name} vote", *won))
    return differences


def _difference(what: str, first: np.ndarray, second: np.ndarray) -> Difference:
    binary = all(np.isin(shares, (0, 1)).all() for shares in (first, second))
    p = intervals.mcnemar(first > 0, second > 0) if binary else None
    change = intervals.difference(first, second)
    return Difference(what, float(first.mean()), float(second.mean()), *change, p)


def _notes(verdicts: tuple[Verdict, ...]) -> list[str]:
    first, second = verdicts
    notes = []
    if first.suite != second.suite:
        notes.append(f"the suites differ: {first.suite} and {second.suite}")
    for verdict, word in zip(verdicts, ("first", "second"), strict=True):
        failed = [note.name for note in verdict.diagnostics if note.status == "fail"]
        if failed:
            notes.append(f"diagnostics of the {word} run failed: {', '.join(failed)}")
    return notes
