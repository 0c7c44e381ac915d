"""Two finished runs on the same images: what differs, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.intervals import Estimate
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.verdict import AttackResult, Interval, Verdict
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
class AttackPair:
    """What two networks keep under the attacks of one name.

    An image that an attack before it broke counts with its worst version so far.

    Attributes:
        name: The name in both suites.
        first: Accuracy of the first run and its 95 % interval; None where it has no such attack.
        second: The same of the second run.
        change: Second minus first, images paired, and its 95 % interval; None where one is missing.
        alike: Whether both ran with the same settings, gradient mode and number of draws.
    """

    name: str
    first: Estimate | None
    second: Estimate | None
    change: Estimate | None
    alike: bool


@dataclass(frozen=True)
class Comparison:
    """Differences between two verdicts, and what to keep in mind when reading them.

    Attributes:
        first: One verdict.
        second: Another one, on the same images.
        differences: Of accuracies without an attack and in the worst case.
        attacks: What each keeps under every attack, in the order of the first suite.
        survivors: Number of images that are right in at least half of the draws after all attacks,
            in `both` runs, in the `first` or the `second` alone, and in `neither`.
        notes: What to keep in mind.
        unlike: Whether the suites differ, or checks of a run failed: what the attacks left is no
            measure of both then.
    """

    first: Verdict
    second: Verdict
    differences: tuple[Difference, ...]
    attacks: tuple[AttackPair, ...]
    survivors: dict[str, int]
    notes: tuple[str, ...]
    unlike: bool


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compares the runs in two folders image by image.

    Raises:
        InputError: If a folder holds no finished run, or a verdict that is not that of its
            predictions, or the runs attacked different images or under different threat models.
    """
    verdicts, predictions = zip(*map(load_run, (first, second)), strict=True)
    for part, key in (("data", "sha256"), *(("threat", key) for key in ("norm", "eps", "noise"))):
        ours, theirs = (getattr(verdict, part).get(key) for verdict in verdicts)
        if ours != theirs:
            raise InputError(
                f"'{first}' and '{second}' cannot be compared: {part}.{key} is {ours!s:.16} in one "
                f"and {theirs!s:.16} in the other; evaluate both on the same images and threat"
            )
    before, after = verdicts
    differences = tuple(_differences(verdicts, predictions))
    attacks = tuple(_attacks(verdicts, predictions))
    left, kept = (np.mean(run.worst == run.labels[:, None], 1) >= 0.5 for run in predictions)
    survivors = {
        "both": int((left & kept).sum()),
        "first": int((left & ~kept).sum()),
        "second": int((~left & kept).sum()),
        "neither": int((~left & ~kept).sum()),
    }
    unlike = _notes(verdicts)
    notes = (*unlike, *_other_settings(attacks))
    return Comparison(before, after, differences, attacks, survivors, notes, bool(unlike))


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


def _attacks(
    verdicts: tuple[Verdict, ...], predictions: tuple[Predictions, ...]
) -> Iterator[AttackPair]:
    rows: list[dict[str, tuple[AttackResult, np.ndarray]]] = []
    for verdict, run in zip(verdicts, predictions, strict=True):
        right = (run.attacks == run.labels[:, None]).mean(-1)
        rows.append({row.name: (row, right[n]) for n, row in enumerate(verdict.attacks)})
    first, second = rows
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        change, alike = None, False
        if one is not None and other is not None:
            change = intervals.difference(one[1], other[1])
            alike = _settings(one[0]) == _settings(other[0])
        yield AttackPair(name, _estimate(one), _estimate(other), change, alike)


def _estimate(found: tuple[AttackResult, np.ndarray] | None) -> Estimate | None:
    return None if found is None else Estimate(found[0].accuracy, found[0].ci)


def _settings(row: AttackResult) -> tuple[str, str, int]:
    return row.implementation, row.gradient, row.eot


def _other_settings(attacks: Sequence[AttackPair]) -> list[str]:
    """A note on attacks that have one name and are not the same."""
    names = [pair.name for pair in attacks if pair.change is not None and not pair.alike]
    if not names:
        return []
    return [f"attacks that ran with other settings, gradients or draws: {', '.join(names)}"]


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
