"""A finished run as it lies in its folder: its verdict, and the predictions that it comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robust_snn.eval.scoring.predictions import NAME, Predictions
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.errors import InputError

SLACK = 1e-6  # what writing a share as text may cost


def load_run(run: str | Path) -> tuple[Verdict, Predictions]:
    """Reads a run and counts its accuracies again.

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
    named = Path(run).suffix == ".json" and not Path(run).is_dir()
    return Path(run) if named else Path(run) / "verdict.json"


def check_agreement(verdict: Verdict, predictions: Predictions, path: Path) -> None:
    """Raises `InputError` unless the verdict at `path` is that of the predictions."""
    labels = predictions.labels[:, None]
    told: dict[str, tuple[float, float]] = {
        "data.n": (verdict.data["n"], len(labels)),
        "draws.report": (verdict.draws["report"], predictions.clean.shape[1]),
        "attacks": (len(verdict.attacks), len(predictions.attacks)),
        "clean.accuracy": (verdict.clean.accuracy, _share(predictions.clean, labels)),
        "robust.accuracy": (verdict.robust.accuracy, _share(predictions.worst, labels)),
    }
    for number, (row, answers) in enumerate(
        zip(verdict.attacks, predictions.attacks, strict=False)
    ):
        told[f"attacks[{number}].accuracy"] = (row.accuracy, _share(answers, labels))
    for what, (written, counted) in told.items():
        if abs(written - counted) > SLACK:
            raise InputError(
                f"'{path}' says {what} is {written:.6g}, but {NAME} beside it gives {counted:.6g}; "
                "start the evaluation again to restore both"
            )


def _share(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float((predictions == labels).mean())
