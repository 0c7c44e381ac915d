"""Curves of a sweep: accuracy along an axis, kept as `sweep.json` beside `verdict.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_snn.eval.scoring.intervals import Estimate
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.user_files import is_there

CURVES_FILE = "sweep.json"
CURVES_SCHEMA = 1


@dataclass(frozen=True)
class CurvePoint:
    """Accuracies at one value of an axis: clean, in the worst case, and under every attack alone.

    Each is an `Estimate`: an accuracy and its 95 % interval.
    """

    value: Any
    clean: Estimate
    robust: Estimate
    attacks: dict[str, Estimate]

    @classmethod
    def of(cls, value: Any, verdict: Verdict) -> CurvePoint:
        """The point of a verdict."""
        return cls(
            value,
            Estimate(verdict.clean.accuracy, verdict.clean.ci),
            Estimate(verdict.robust.accuracy, verdict.robust.ci),
            {row.name: Estimate(row.accuracy, row.ci) for row in verdict.attacks},
        )

    @classmethod
    def unattacked(cls, verdict: Verdict) -> CurvePoint:
        """The point at eps = 0, where no attack changes an image, so none has to run."""
        clean = Estimate(verdict.clean.accuracy, verdict.clean.ci)
        return cls(0.0, clean, clean, {row.name: clean for row in verdict.attacks})


Curves = dict[str, tuple[CurvePoint, ...]]  # by axis


def save_curves(curves: Curves, run: str | Path) -> None:
    """Writes curves into a run's folder, whole or not at all."""
    axes = {axis: [_point_tree(point) for point in points] for axis, points in curves.items()}
    write_json(Path(run) / CURVES_FILE, {"schema": CURVES_SCHEMA, "axes": axes})


def load_curves(run: str | Path) -> Curves:
    """Reads the curves in a run's folder; none where it has no sweep.

    Raises:
        InputError: If `sweep.json` is damaged.
    """
    path = Path(run) / CURVES_FILE
    try:
        if not is_there(path):
            return {}
        tree = read_json(path, "the sweep")
        if tree["schema"] != CURVES_SCHEMA:
            raise ValueError(f"schema {tree['schema']}")
        return {axis: tuple(map(_point, points)) for axis, points in tree["axes"].items()}
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read the sweep '{path}': {error}") from None


def _point_tree(point: CurvePoint) -> dict[str, Any]:
    return {
        "value": point.value,
        "clean": _estimate_tree(point.clean),
        "robust": _estimate_tree(point.robust),
        "attacks": {name: _estimate_tree(estimate) for name, estimate in point.attacks.items()},
    }


def _estimate_tree(estimate: Estimate) -> dict[str, Any]:
    return {"accuracy": estimate.value, "ci": list(estimate.ci)}


def _point(tree: Mapping[str, Any]) -> CurvePoint:
    attacks = {name: _estimate(row) for name, row in tree["attacks"].items()}
    return CurvePoint(tree["value"], _estimate(tree["clean"]), _estimate(tree["robust"]), attacks)


def _estimate(tree: Mapping[str, Any]) -> Estimate:
    low, high = tree["ci"]
    return Estimate(float(tree["accuracy"]), (float(low), float(high)))
