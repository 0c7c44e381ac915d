"""`sweep`: verdicts along axes, such as eps, steps, draws, gradient mode or time steps.

Each axis varies on its own around the point of the suite. Every value is a run in a folder of its
own, so an interrupted sweep resumes like any run. `sweep.json` holds the curves.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from robust_snn.attacks.mode_reach import TRIED_ON, tried_reach
from robust_snn.data.lazy_images import Images
from robust_snn.data.map_style import MapStyle, with_labels
from robust_snn.eval.evaluate import evaluate, write_page
from robust_snn.eval.protocol.suite import Suite
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.protocol.sweep_axes import Axes, parse_axes
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.reporting.html import REPORT_FILE
from robust_snn.eval.reporting.page_templates import say_if_no_page
from robust_snn.eval.scoring.curves import CurvePoint, Curves, save_curves
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.foreign import adapt_to
from robust_snn.gradients import parse_mode
from robust_snn.models import create_network
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import undisturbed
from robust_snn.utils.places import place
from robust_snn.utils.user_files import check_output_folder
from robust_snn.victim import Victim

_log = logging.getLogger("robust_snn")


@checked_types
def sweep(
    victim: Victim | nn.Module | str,
    images: Images | MapStyle,
    labels: Tensor | None = None,
    axes: Axes | Mapping[str, Any] | None = None,
    *,
    suite: str | Path | Suite = "quick",
    out: str | Path = "runs/evaluation",
    eps: float | None = None,
    steps: int | None = None,
    eot: int | None = None,
    model_info: Mapping[str, Any] | None = None,
    report: bool | Mapping[str, Any] = True,
    **others: Any,
) -> tuple[Verdict, Curves]:
    """Evaluates at the point of a suite and along axes around it.

    Args:
        victim: A victim, a network or a timm name.
        images: `[N, C, H, W]`, floats in [0, 1], or a data set, as in `evaluate`.
        labels: `[N]`, integers; those of the data set if left out.
        axes: Values by axis: `eps`, to which that of the point is added, `steps`, `eot`, `gradient`
            (of every attack) and `T`; those of the suite if left out. `T` needs a network of ours.
        suite: Name of a shipped suite, path of a YAML file, or a `Suite`.
        out: Folder of the run at the point; the others lie in `sweep/` inside it.
        eps: Radius; the suite's if left out.
        steps: Instead of every attack's steps.
        eot: Instead of the number of draws that every attack averages.
        model_info: `name` and `kwargs` of the model, for the record.
        report: As in `evaluate`; the page has the curves, too.
        **others: Further arguments of `evaluate`.

    Returns:
        The verdict at the point, and the curves.

    Raises:
        InputError: If an argument is wrong, or a folder holds another run.
    """
    check_output_folder(out, "the run")
    images, labels = with_labels(images, labels)
    asked = load_suite(suite)
    axes = asked.sweep if axes is None else parse_axes(axes, "sweep")
    around: dict[str, Any] = {
        "victim": adapt_to(victim, images),
        "suite": asked,
        "eps": eps,
        "steps": steps,
        "eot": eot,
        "model_info": dict(model_info or {}),
        "report": False,
        **others,
    }
    changes = {  # all before the first run, so that a value that cannot be is refused at once
        (axis, value): _changes(around, axis, value)
        for axis, values in axes.items()
        for value in values
    }
    for (axis, _), changed in changes.items():
        if axis == "gradient":
            _refuse_mode(changed["victim"], images[:TRIED_ON])
    if report is not False:
        say_if_no_page(REPORT_FILE)
    verdict = evaluate(images=images, labels=labels, out=out, **around)
    curves: dict[str, list[CurvePoint]] = {axis: [] for axis in axes}
    for (axis, value), changed in changes.items():
        if axis == "eps" and value == 0:
            point = CurvePoint.unattacked(verdict)
        elif axis == "eps" and value == verdict.threat["eps"]:
            point = CurvePoint.of(value, verdict)
        else:
            _log.info("sweep: %s = %s", axis, value)
            run = str(place(out) / "sweep" / re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{axis}={value}"))
            arguments = {**around, **changed, "images": images, "labels": labels, "out": run}
            arguments["certificates"] = None  # they are of the point alone
            point = CurvePoint.of(value, evaluate(**arguments))
        curves[axis].append(point)
    if "eps" in curves and all(p.value != verdict.threat["eps"] for p in curves["eps"]):
        curves["eps"].append(CurvePoint.of(verdict.threat["eps"], verdict))
        curves["eps"].sort(key=lambda point: point.value)
    done = {axis: tuple(points) for axis, points in curves.items()}
    if done:
        save_curves(done, out, verdict)
    write_page(out, report)
    return verdict, done


def _refuse_mode(victim: Victim, images: Tensor) -> None:
    with undisturbed(victim):
        refusal = tried_reach(victim, images).refusal
    if refusal is not None:
        raise InputError(f"a sweep over gradient has a mode that the network refuses: {refusal}")


def _changes(around: Mapping[str, Any], axis: str, value: Any) -> dict[str, Any]:
    """The arguments of `evaluate` that differ at a value of an axis from those `around` it."""
    victim, suite = around["victim"], around["suite"]
    if axis == "gradient":
        rows = tuple(replace(row, gradient=value) for row in suite.attacks)
        name = f"{suite.name}(gradient={parse_mode(value).brief})"
        changed = replace(suite, name=name, attacks=rows)
        return {"victim": victim.replace(gradient=value), "suite": changed}
    if axis == "T":
        return _at_steps(victim, around["model_info"], value)
    if axis == "eps":
        Threat(around.get("norm") or suite.norm, value)  # refuses what cannot be
    else:
        suite.override(**{axis: value})
    return {axis: value}


def _at_steps(victim: Victim, info: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The same weights, with the same settings, over another number of time steps."""
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
    return {"victim": moved, "model_info": {**info, "kwargs": kwargs}}
