"""Curves of a sweep: accuracy along an axis, kept as `sweep.json` beside `verdict.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_snn.eval.scoring.intervals import Estimate
from robust_snn.eval.scoring.verdict import AttackResult, Verdict
from robust_snn.utils.checked_files import check_record, write_record
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.places import place
from robust_snn.utils.user_files import is_there

CURVES_FILE = "sweep.json"
CURVES_SCHEMA = 1
SLACK = 1e-9  # what rounding may add to a share


@dataclass(frozen=True)
class CurvePoint:
    """Accuracies at one value of an axis: clean, in the worst case, and under every attack.

    An attack that met all images stands alone, another one after those before it.

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
            {row.name: _shown(verdict, row) for row in verdict.attacks},
        )

    @classmethod
    def unattacked(cls, verdict: Verdict) -> CurvePoint:
        """The point at eps = 0, where no attack changes an image, so none has to run."""
        clean = Estimate(verdict.clean.accuracy, verdict.clean.ci)
        return cls(0.0, clean, clean, {row.name: clean for row in verdict.attacks})


Curves = dict[str, tuple[CurvePoint, ...]]  # by axis


def _shown(verdict: Verdict, row: AttackResult) -> Estimate:
    return Estimate(*((row.accuracy, row.ci) if verdict.is_alone(row) else row.worst_so_far))


def save_curves(curves: Curves, run: str | Path, verdict: Verdict) -> None:
    """Writes curves around a verdict into its run's folder, whole or not at all."""
    axes = {axis: [_point_tree(point) for point in points] for axis, points in curves.items()}
    tree = {"schema": CURVES_SCHEMA, "around": _around(verdict), "axes": axes}
    write_record(place(run) / CURVES_FILE, tree)


def _around(verdict: Verdict) -> dict[str, Any]:
    """What tells the verdict of a sweep from others."""
    return {
        "weights_sha256": verdict.model["weights_sha256"],
        "data_sha256": verdict.data["sha256"],
        "suite": verdict.suite,
        "robust": verdict.robust.accuracy,
    }


def load_curves(run: str | Path, verdict: Verdict | None = None) -> Curves:
    """Reads the curves in a run's folder; none where it has no sweep.

    Args:
        run: The folder.
        verdict: The verdict that they must lie around, if it is known.

    Raises:
        InputError: If `sweep.json` is damaged, or another run's.
    """
    path = place(run) / CURVES_FILE
    try:
        if not is_there(path):
            return {}
        tree = read_json(path, "the sweep")
        if tree["schema"] != CURVES_SCHEMA:
            raise ValueError(f"schema {tree['schema']}")
        if verdict is not None and tree.get("around", _around(verdict)) != _around(verdict):
            raise ValueError("it belongs to another run; start the sweep again to restore it")
        curves = {axis: tuple(map(_point, points)) for axis, points in tree["axes"].items()}
        check_record(tree, path)
        return curves
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
    value, (low, high) = float(tree["accuracy"]), map(float, tree["ci"])
    if not -SLACK <= low <= value + SLACK <= high + 2 * SLACK <= 1 + 3 * SLACK:
        raise ValueError(f"an accuracy of {value} in {low} to {high}")
    return Estimate(value, (low, high))
