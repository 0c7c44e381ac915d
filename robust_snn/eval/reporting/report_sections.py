"""What the sections of a report show, out of what a run has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_snn.eval.execution.report_data import Masking, Pictures, Raster, ReportData
from robust_snn.eval.reporting import diagnosis_figures, report_figures
from robust_snn.eval.reporting.charts import Chart
from robust_snn.eval.reporting.published import PublishedResults
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.gradients import parse_mode


def classes(data: ReportData, names: Sequence[Any]) -> dict[str, Any]:
    """Accuracy by class; the figure shows the extremes where there are many."""
    rows: list[dict[str, Any]] = []
    for label in np.unique(data.labels):
        at = data.labels == label
        every = np.ones(at.sum())
        rows.append(
            {
                "name": class_name(int(label), names),
                "images": int(at.sum()),
                "clean": intervals.fraction(data.clean[at], every),
                "robust": intervals.fraction(data.robust[at], every),
            }
        )
    shown = rows
    if len(rows) > report_figures.MOST_CLASSES:
        by_robust = sorted(rows, key=lambda row: row["robust"].value)
        half = report_figures.MOST_CLASSES // 2
        shown = by_robust[:half] + by_robust[-half:]
    name, clean, robust = ([row[key] for row in shown] for key in ("name", "clean", "robust"))
    return {"rows": rows, "shown": len(shown), "chart": report_figures.classes(name, clean, robust)}


def activity(data: ReportData) -> dict[str, Any] | None:
    """Activity and cost; `costs` is one row per measure, clean and attacked."""
    if not len(data.layers):
        return None
    measures = ("spikes", "spike operations", "multiplications", "energy")
    return {
        "layers": list(zip(data.layers.tolist(), *data.rates.tolist(), strict=True)),
        "costs": list(zip(measures, *data.costs.tolist(), strict=True)),
        "chart": report_figures.activity(data.layers.tolist(), *data.rates.tolist()),
    }


def raster(found: Raster) -> dict[str, Any] | None:
    """Spikes of one image, and how many of them the attack changed."""
    if found.image < 0:
        return None
    clean, attacked = found.spikes
    return {
        "image": found.image,
        "neurons": len(found.layers),
        "clean": int(clean.sum()),
        "attacked": int(attacked.sum()),
        "changed": int((clean != attacked).sum()),
        "chart": report_figures.rasters(found.spikes, found.layers),
    }


def agreement(data: ReportData) -> dict[str, Any] | None:
    """Cosines of the gradients under every two modes, where there are two."""
    if len(data.modes) < 2:
        return None
    modes = data.modes.tolist()
    cosines = data.cosines.tolist()
    return {
        "rows": list(zip((parse_mode(mode).brief for mode in modes), cosines, strict=True)),
        "chart": diagnosis_figures.agreement(modes, cosines),
    }


def masking(found: Masking) -> dict[str, Any]:
    """What shows a masked gradient; None, or nothing, where it was not measured."""
    ranked = sorted(zip(found.tried_accuracies.tolist(), found.tried.tolist(), strict=True))
    curve = found.margin_curve
    courses: dict[str, Chart] = {
        name: diagnosis_figures.curve(name, list(zip(*points.tolist(), strict=True)))
        for name, points in (("steps", found.steps), ("draws", found.draws))
        if points.shape[-1] > 1
    }
    return {
        "gradient": parse_mode(found.gradient).brief if found.gradient else "",
        "margin": None if curve is None else diagnosis_figures.margin(curve),
        "courses": courses,
        "tried": found.tried_images,
        "ranked": [(parse_mode(mode).brief, accuracy) for accuracy, mode in ranked],
        "by_mode": (
            diagnosis_figures.by_mode([m for _, m in ranked], [a for a, _ in ranked])
            if ranked
            else None
        ),
    }


def pictures(
    verdict: Verdict, data: ReportData, shown: Pictures, names: Sequence[Any]
) -> list[dict[str, Any]]:
    """Images with their perturbation and their attacked version."""
    found = []
    for n, image in enumerate(shown.ids.tolist()):
        clean, adversarial = _stills(shown.clean[n], shown.adversarial[n])
        delta = adversarial - clean
        largest = float(np.abs(delta).max())
        attack = int(shown.attacks[n])
        found.append(
            {
                "image": image,
                "label": class_name(int(data.labels[image]), names),
                "answer": class_name(int(shown.answers[n]), names),
                "right": float(data.robust[image]),
                "attack": verdict.attacks[attack].name if attack >= 0 else None,
                "clean": report_figures.picture(clean),
                "delta": report_figures.picture(0.5 + delta / (2 * largest or 1)),
                "adversarial": report_figures.picture(adversarial),
                "factor": f"{0.5 / largest:.3g}" if largest else "1",
            }
        )
    return found


def unmeasured(
    verdict: Verdict,
    data: ReportData | None,
    curves: Mapping[str, Any],
    published: PublishedResults | None,
) -> list[tuple[str, str]]:
    """What the page does not show, and why."""
    found: list[tuple[str, str]] = []
    if data is None:
        why = "the run holds no record of its images; start it again, and finished work is kept"
        found.append(("Classes, spikes, examples and the figures of gradients", why))
    else:
        found += [(str(what), str(why)) for what, why in data.missing]
        told = {what for what, _ in found}
        if not len(data.layers) and "Spikes and energy" not in told:
            found.append(("Spikes and energy", "no spiking layer of this network is known here"))
        if len(data.modes) < 2 and "Agreement of gradient modes" not in told:
            found.append(("Agreement of gradient modes", "the network takes fewer than two"))
        if not len(data.pictures.ids):
            why = "no image was broken, or the stored versions are gone"
            found.append(("Adversarial examples", why))
        if not len(data.masking.tried):
            why = "only adaptive suites try them all; robust-snn diagnose does, too"
            found.append(("Robust accuracy by gradient mode", why))
    if verdict.larger_budget is None:
        why = "it needs attacks that follow each other and count their passes"
        found.append(("What a larger budget would break", why))
    if verdict.certified is None:
        found.append(("Certified accuracy", "no certificates were given, see robust-snn certify"))
    if absent := [axis for axis in ("eps", "steps", "eot") if axis not in curves]:
        why = "not asked for: robust-snn evaluate --sweep AXIS=VALUES"
        found.append((f"Accuracy of the whole run over {', '.join(absent)}", why))
    if published is None:
        why = "no table of a paper that is known here has this suite, network and data"
        found.append(("Comparison with the paper", why))
    return found


def _stills(*versions: np.ndarray) -> list[np.ndarray]:
    """Images as they are, and event frames `[T, C, H, W]` as their mean, bright as it may be."""
    if versions[0].ndim == 3:
        return list(versions)
    means = [version.mean(0) for version in versions]
    brightest = max(float(mean.max()) for mean in means) or 1.0
    return [mean / brightest for mean in means]


def class_name(label: int, names: Sequence[Any]) -> str:
    """The name of a class, or its number."""
    return str(names[label]) if label < len(names) else f"class {label}"
