"""`report.html`: a run as one page that needs no network, no script and no file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution import report_data as evidence
from robust_snn.eval.execution.report_data import ReportData
from robust_snn.eval.reporting import report_figures as figures
from robust_snn.eval.reporting.published import published
from robust_snn.eval.reporting.terminal import percent, radius, sentence, span
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.sweep import Point, load_curves
from robust_snn.gradients import parse_mode
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.errors import InputError, missing_extra

FILE = "report.html"
ABOUT = "about.json"
ORDER = ("fail", "warn", "pass")


def write_report(
    run: str | Path, *, command: str | None = None, classes: Sequence[str] | None = None
) -> Path:
    """Writes `report.html` into the folder of a finished run.

    Args:
        run: The folder.
        command: The command that made the run, for the record.
        classes: Names of the classes, for the record.

    Returns:
        Path of the page.

    Raises:
        InputError: If the folder has no verdict, or its files are damaged.
        ImportError: If Jinja2 or matplotlib is not installed.
    """
    run = Path(run)
    if not (run / "verdict.json").exists():
        raise InputError(f"no verdict.json in '{run}': give the folder of a finished run")
    verdict = Verdict.load(run / "verdict.json")
    given = {"command": command, "classes": None if classes is None else list(classes)}
    about = {**_about(run), **{key: value for key, value in given.items() if value is not None}}
    page = render_page(verdict, ReportData.load(run / evidence.FILE), load_curves(run), about)
    if about:
        write_json(run / ABOUT, about)
    write_text(run / FILE, page)
    return run / FILE


def render_page(
    verdict: Verdict,
    found: ReportData | None = None,
    curves: Mapping[str, Sequence[Point]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> str:
    """The page as HTML.

    Args:
        verdict: What was measured.
        found: Answers, images and activity behind it.
        curves: Points of a sweep by axis.
        about: `command` and `classes`, where they are known.

    Raises:
        ImportError: If Jinja2 or matplotlib is not installed.
    """
    names = (about or {}).get("classes") or []
    notes = sorted(verdict.diagnostics, key=lambda note: (*ORDER, note.status).index(note.status))
    return template("report.html").render(
        verdict=verdict,
        sentence=sentence(verdict),
        trust=_trust(verdict.diagnostics),
        notes=notes,
        attacks=[
            {"row": row, "gradient": parse_mode(row.gradient).brief} for row in verdict.attacks
        ],
        attacks_figure=figures.attacks(verdict),
        known=published(verdict),
        curves=[
            {"axis": axis, "points": points, "figure": figures.curve(axis, points)}
            for axis, points in (curves or {}).items()
        ],
        found=found,
        classes=None if found is None else _classes(found, names),
        inside=None if found is None or not len(found.layers) else _inside(found),
        modes=None if found is None else _modes(found),
        pictures=[] if found is None else _pictures(verdict, found, names),
        command=(about or {}).get("command"),
        call=_call(verdict),
    )


def template(name: str) -> Any:
    """A template of this room; every string that it prints is escaped.

    Raises:
        ImportError: If Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise missing_extra("jinja2", "report") from error
    loader = PackageLoader("robust_snn.eval.reporting")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["span"] = span
    environment.filters["radius"] = radius
    environment.filters["at"] = _at
    environment.filters["amount"] = amount
    return environment.get_template(name)


def amount(value: float) -> str:
    """A number with a prefix for thousands and thousandths, such as `5.40 M` or `12.7 µ`."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}".rstrip()
    return f"{value / 1e-9:.3g} n" if value else "0"


def _at(value: Any, axis: str) -> str:
    """A value of an axis as text."""
    if axis == "gradient":
        return parse_mode(str(value)).brief
    return radius(float(value)) if axis == "eps" else str(value)


def _about(run: Path) -> dict[str, Any]:
    """What an earlier call wrote down; a file of another form says nothing."""
    try:
        tree = json.loads((run / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    checks = {"command": str, "classes": list}
    tree = tree if isinstance(tree, dict) else {}
    return {key: tree[key] for key, kind in checks.items() if isinstance(tree.get(key), kind)}


def _trust(notes: Sequence[Diagnostic]) -> dict[str, str]:
    """How far the diagnostics support the verdict: the worst status, and a sentence."""
    counts = {status: sum(note.status == status for note in notes) for status in ORDER}
    if not notes:
        return {"status": "warn", "text": "No diagnostics ran: nothing speaks for this number."}
    if counts["fail"]:
        bad = f"{counts['fail']} of {len(notes)} diagnostics failed"
        return {"status": "fail", "text": f"{bad}: the attacks may have failed, not held."}
    if counts["warn"]:
        bad = f"{counts['warn']} of {len(notes)} diagnostics warn"
        return {"status": "warn", "text": f"{bad}: read them before you rely on this number."}
    return {"status": "pass", "text": f"All {len(notes)} diagnostics passed."}


def _classes(found: ReportData, names: Sequence[Any]) -> dict[str, Any]:
    """Accuracy by class; the figure shows the extremes where there are many."""
    rows: list[dict[str, Any]] = []
    for label in np.unique(found.labels):
        at = found.labels == label
        rows.append(
            {
                "name": _class(int(label), names),
                "images": int(at.sum()),
                "clean": float(found.clean[at].mean()),
                "robust": float(found.robust[at].mean()),
            }
        )
    shown = rows
    if len(rows) > figures.MOST_CLASSES:
        by_robust = sorted(rows, key=lambda row: row["robust"])
        half = figures.MOST_CLASSES // 2
        shown = by_robust[:half] + by_robust[-half:]
    name, clean, robust = ([row[key] for row in shown] for key in ("name", "clean", "robust"))
    return {"rows": rows, "shown": len(shown), "figure": figures.classes(name, clean, robust)}


def _inside(found: ReportData) -> dict[str, Any]:
    """Activity and cost; `costs` is one row per measure, clean and attacked."""
    measures = ("spikes", "spike operations", "multiplications", "energy")
    return {
        "layers": list(zip(found.layers.tolist(), *found.rates.tolist(), strict=True)),
        "costs": list(zip(measures, *found.costs.tolist(), strict=True)),
        "figure": figures.activity(found.layers.tolist(), *found.rates.tolist()),
    }


def _modes(found: ReportData) -> list[dict[str, Any]]:
    names = [parse_mode(mode).brief for mode in found.modes.tolist()]
    return [
        {"name": name, "cosines": cosines}
        for name, cosines in zip(names, found.cosines.tolist(), strict=True)
    ]


def _pictures(verdict: Verdict, found: ReportData, names: Sequence[Any]) -> list[dict[str, Any]]:
    shown = []
    pictures = found.pictures
    for n, image in enumerate(pictures.ids.tolist()):
        clean, adversarial = _stills(pictures.clean[n], pictures.adversarial[n])
        delta = adversarial - clean
        largest = float(np.abs(delta).max())
        shown.append(
            {
                "image": image,
                "label": _class(int(found.labels[image]), names),
                "answer": _class(int(pictures.answers[n]), names),
                "attack": verdict.attacks[int(pictures.attacks[n])].name,
                "clean": figures.picture(clean),
                "delta": figures.picture(0.5 + delta / (2 * largest or 1)),
                "adversarial": figures.picture(adversarial),
                "factor": f"{0.5 / largest:.3g}" if largest else "1",
            }
        )
    return shown


def _stills(*versions: np.ndarray) -> list[np.ndarray]:
    """Images as they are, and event frames `[T, C, H, W]` as their mean, bright as it may be."""
    if versions[0].ndim == 3:
        return list(versions)
    means = [version.mean(0) for version in versions]
    brightest = max(float(mean.max()) for mean in means) or 1.0
    return [mean / brightest for mean in means]


def _class(label: int, names: Sequence[Any]) -> str:
    return str(names[label]) if label < len(names) else f"class {label}"


def _call(verdict: Verdict) -> str:
    """The call in Python that gives this verdict, for runs that no command made."""
    suite, _, changes = verdict.suite.rstrip(")").partition("(")
    given = [f"suite={suite!r}", f"eps={verdict.threat['eps']!r}", *changes.split(",")]
    given += [f"seed={verdict.seed}"]
    words = [f"norm={word[5:]!r}" if word.startswith("norm=") else word for word in given if word]
    return f"robust_snn.evaluate(victim, images, labels, {', '.join(words)})"
