"""Sweeps: how the verdict moves with eps, steps, draws, gradient mode or time steps.

Each axis varies on its own around the point of the suite. Every value is a run in a folder of its
own, so a killed sweep goes on like any run. `sweep.json` holds the curves.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from robust_snn.eval.evaluate import evaluate
from robust_snn.eval.protocol.suite import Suite
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.protocol.sweep_axes import Axes, parse_axes
from robust_snn.eval.scoring.verdict import Interval, Verdict
from robust_snn.foreign import adapt
from robust_snn.gradients import parse_mode
from robust_snn.models import create_network
from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

_log = logging.getLogger("robust_snn")
FILE = "sweep.json"
SCHEMA = 1


@dataclass(frozen=True)
class Measured:
    """An accuracy and its 95 % interval."""

    accuracy: float
    ci: Interval


@dataclass(frozen=True)
class Point:
    """One value of an axis: clean, under every attack alone, and in the worst case."""

    value: Any
    clean: Measured
    robust: Measured
    attacks: dict[str, Measured]

    @classmethod
    def of(cls, value: Any, verdict: Verdict) -> Point:
        """The point that a verdict makes."""
        return cls(
            value,
            Measured(verdict.clean.accuracy, verdict.clean.ci),
            Measured(verdict.robust.accuracy, verdict.robust.ci),
            {row.name: Measured(row.accuracy, row.ci) for row in verdict.attacks},
        )


Curves = dict[str, tuple[Point, ...]]  # by axis


def sweep(
    victim: Victim | nn.Module | str,
    images: Tensor,
    labels: Tensor,
    axes: Axes | Mapping[str, Any] | None = None,
    *,
    suite: str | Path | Suite = "quick",
    out: str | Path = "runs/evaluation",
    eps: float | None = None,
    steps: int | None = None,
    eot: int | None = None,
    model_info: Mapping[str, Any] | None = None,
    **others: Any,
) -> tuple[Verdict, Curves]:
    """Evaluates at the point of a suite and along axes around it.

    Args:
        victim: A victim, a network or a timm name.
        images: `[N, C, H, W]`, floats in [0, 1].
        labels: `[N]`, integers.
        axes: Values by axis: `eps`, `steps`, `eot`, `gradient` (of every attack) and `T`; those of
            the suite if left out. `T` needs a network of ours.
        suite: Name of a shipped suite, path of a YAML file, or a `Suite`.
        out: Folder of the run at the point; the others lie in `sweep/` inside it.
        eps: Radius; the suite's if left out.
        steps: Instead of every attack's steps.
        eot: Instead of the number of draws that every attack averages.
        model_info: `name` and `kwargs` of the model, for the record.
        **others: Further arguments of `evaluate`.

    Returns:
        The verdict at the point, and the curves.

    Raises:
        InputError: If an argument is wrong, or a folder holds another run.
    """
    protocol = load_suite(suite)
    axes = protocol.sweep if axes is None else parse_axes(axes, "sweep")
    subject, info = adapt(victim), dict(model_info or {})
    at: dict[str, Any] = {"suite": protocol, "eps": eps, "steps": steps, "eot": eot}
    runs = [
        (axis, value, _moved(subject, info, protocol, axis, value))
        for axis, values in axes.items()
        for value in values
    ]
    verdict = evaluate(subject, images, labels, out=out, model_info=info, **at, **others)
    curves: dict[str, list[Point]] = {axis: [] for axis in axes}
    for axis, value, (moved, changes) in runs:
        if axis == "eps" and value in (0, verdict.threat["eps"]):
            point = _unattacked(verdict) if value == 0 else Point.of(value, verdict)
        else:
            folder = Path(out) / "sweep" / re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{axis}={value}")
            _log.info("sweep: %s = %s", axis, value)
            moved_info = {**info, **changes.pop("model_info", {})}
            settings = {**at, **changes, "model_info": moved_info, **others}
            point = Point.of(value, evaluate(moved, images, labels, out=folder, **settings))
        curves[axis].append(point)
    done = {axis: tuple(points) for axis, points in curves.items()}
    if done:
        write_json(Path(out) / FILE, {"schema": SCHEMA, "axes": _plain(done)})
    return verdict, done


def load_curves(run: str | Path) -> Curves:
    """The curves in a run's folder; none where it has no sweep.

    Raises:
        InputError: If `sweep.json` is damaged.
    """
    path = Path(run) / FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["schema"] != SCHEMA:
            raise ValueError(f"schema {tree['schema']}")
        return {axis: tuple(map(_point, points)) for axis, points in tree["axes"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read the sweep '{path}': {error}") from None


def _moved(
    victim: Victim, info: Mapping[str, Any], suite: Suite, axis: str, value: Any
) -> tuple[Victim, dict[str, Any]]:
    """The victim at a value of an axis, and the arguments of `evaluate` that change."""
    if axis == "gradient":
        rows = tuple(replace(row, gradient=value) for row in suite.attacks)
        brief = parse_mode(value).brief
        changed = replace(suite, name=f"{suite.name}(gradient={brief})", attacks=rows)
        return victim.replace(gradient=value), {"suite": changed}
    if axis == "T":
        return _at_steps(victim, info, value)
    return victim, {axis: value}


def _at_steps(victim: Victim, info: Mapping[str, Any], steps: int) -> tuple[Victim, dict[str, Any]]:
    """The same weights over another number of time steps."""
    name = str(info.get("name", ""))
    if not timm.is_model(name):
        raise InputError(
            "a sweep over T builds the network again: it needs model_info with the name and kwargs "
            f"of a registered model, got name '{name}'"
        )
    kwargs = {**info.get("kwargs", {}), "T": steps}
    net = create_network(name, **kwargs)
    try:
        net.load_state_dict(victim.net.state_dict())
    except RuntimeError:
        raise InputError(
            f"{name} has weights per time step: a sweep over T is not defined"
        ) from None
    device = next(victim.net.parameters()).device
    moved = victim.replace(net=net.to(device).eval())
    return moved, {"model_info": {"kwargs": kwargs}}


def _unattacked(verdict: Verdict) -> Point:
    """At eps = 0 no attack changes an image, so none has to run."""
    clean = Measured(verdict.clean.accuracy, verdict.clean.ci)
    return Point(0.0, clean, clean, {row.name: clean for row in verdict.attacks})


def _plain(curves: Curves) -> dict[str, list[dict[str, Any]]]:
    return {axis: [asdict(point) for point in points] for axis, points in curves.items()}


def _point(tree: Mapping[str, Any]) -> Point:
    attacks = {name: _measured(row) for name, row in tree["attacks"].items()}
    return Point(tree["value"], _measured(tree["clean"]), _measured(tree["robust"]), attacks)


def _measured(tree: Mapping[str, Any]) -> Measured:
    low, high = tree["ci"]
    return Measured(float(tree["accuracy"]), (float(low), float(high)))
