"""`report.html`: a run as one page that needs no network, no script and no file beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.report_data import REPORT_DATA_FILE, ReportData
from robust_snn.eval.reporting import report_figures as figures
from robust_snn.eval.reporting import report_sections
from robust_snn.eval.reporting.charts import data_uri
from robust_snn.eval.reporting.page_templates import template
from robust_snn.eval.reporting.published import published_results
from robust_snn.eval.reporting.tables import csv_table, latex_table
from robust_snn.eval.reporting.terminal import passes_per_image, sentence
from robust_snn.eval.scoring.curves import CurvePoint, load_curves
from robust_snn.eval.scoring.finished_run import load_verdict
from robust_snn.eval.scoring.gradient_checks import weakens_attacks
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.scoring.verdict_checks import is_first_look
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.places import place
from robust_snn.utils.user_files import check_output_folder

REPORT_FILE = "report.html"
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
        InputError: If the folder has no verdict or cannot be written to, or its files are damaged.
        ImportError: If Jinja2 or matplotlib is not installed.
    """
    run = place(run)
    if not (run / "verdict.json").exists():
        raise InputError(f"no verdict.json in '{run}': give the folder of a finished run")
    check_output_folder(run, "the page")
    verdict, counted = load_verdict(run)
    given = {"command": command, "classes": None if classes is None else list(classes)}
    about = {**_about(run), **{key: value for key, value in given.items() if value is not None}}
    data = ReportData.load(run / REPORT_DATA_FILE)
    if counted and data is not None:
        _check_data(data, verdict, run / REPORT_DATA_FILE)
    page = render_page(verdict, data, load_curves(run, verdict), about)
    if about:
        write_json(run / ABOUT, about)
    write_text(run / REPORT_FILE, page)
    return run / REPORT_FILE


def render_page(
    verdict: Verdict,
    data: ReportData | None = None,
    curves: Mapping[str, Sequence[CurvePoint]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> str:
    """The page as HTML.

    Args:
        verdict: What was measured.
        data: What else was measured; without it the page has the verdict alone.
        curves: Points of a sweep by axis.
        about: `command` and `classes`, where they are known.

    Raises:
        ImportError: If Jinja2 or matplotlib is not installed.
    """
    names = (about or {}).get("classes") or []
    notes = sorted(verdict.diagnostics, key=lambda note: (*ORDER, note.status).index(note.status))
    published = published_results(verdict)
    passes = [row.forwards + row.backwards for row in verdict.attacks]
    shown = [] if data is None else report_sections.pictures(verdict, data, data.pictures, names)
    left = [] if data is None else report_sections.pictures(verdict, data, data.survivors, names)
    masking = None if data is None else report_sections.masking(data.masking)
    latex, csv = latex_table(verdict), csv_table(verdict)
    return template("report.html").render(
        verdict=verdict,
        sentence=sentence(verdict),
        trust=_trust(verdict.diagnostics),
        notes=notes,
        attacks=[
            {
                "row": row,
                "gradient": row.mode,
                "alone": verdict.is_alone(row),
                "after": row.worst_so_far,
                "passes": passes_per_image(verdict, row),
            }
            for row in verdict.attacks
        ],
        attacks_chart=figures.attacks(verdict),
        published=published,
        spending=figures.spending(verdict) if any(passes) else None,
        curves=[
            {"axis": axis, "points": points, "chart": figures.curve(axis, points)}
            for axis, points in (curves or {}).items()
        ],
        data=data,
        classes=None if data is None else report_sections.classes(data, names),
        activity=None if data is None else report_sections.activity(data),
        raster=None if data is None else report_sections.raster(data.raster),
        agreement=None if data is None else report_sections.agreement(data),
        masking=masking,
        pictures=shown,
        left=left,
        upper_bound=is_first_look(verdict.suite),
        survivors=None if data is None else np.flatnonzero(data.robust >= 0.5).tolist(),
        unmeasured=report_sections.unmeasured(verdict, data, curves or {}, published),
        latex=latex,
        csv=csv,
        latex_uri=data_uri("application/x-tex", latex),
        csv_uri=data_uri("text/csv", csv),
        command=(about or {}).get("command"),
        call=_call(verdict),
    )


def _check_data(data: ReportData, verdict: Verdict, path: Path) -> None:
    """Raises `InputError` unless the data are those of the verdict."""
    means = (data.clean.mean(), data.robust.mean())
    told = (verdict.clean.accuracy, verdict.robust.accuracy)
    ours = len(data.labels) == verdict.data["n"] and np.allclose(means, told, atol=1e-6)
    if not ours or (data.pictures.attacks >= len(verdict.attacks)).any():
        raise InputError(
            f"'{path}' belongs to another run than the verdict beside it; start the evaluation "
            "again to restore it"
        )


def _about(run: Path) -> dict[str, Any]:
    """`about.json` of an earlier call; empty if there is none, or it has another form."""
    try:
        tree = read_json(run / ABOUT, "the record")
    except InputError:
        return {}
    checks = {"command": str, "classes": list}
    tree = tree if isinstance(tree, dict) else {}
    return {key: tree[key] for key, kind in checks.items() if isinstance(tree.get(key), kind)}


def _trust(notes: Sequence[Diagnostic]) -> dict[str, str]:
    """The worst status of the diagnostics, and a sentence on what it means for the verdict."""
    counts = {status: sum(note.status == status for note in notes) for status in ORDER}
    if not notes:
        return {"status": "warn", "text": "No diagnostics ran: nothing supports this number."}
    failed = [note for note in notes if note.status == "fail"]
    bad = f"{len(failed)} of {len(notes)} diagnostics failed"
    if failed and not any(map(weakens_attacks, failed)):
        text = f"{bad}, of the network's own gradient alone, which no attack followed."
        return {"status": "warn", "text": text}
    if failed:
        return {"status": "fail", "text": f"{bad}: the attacks may have failed."}
    if counts["warn"]:
        bad = f"{counts['warn']} of {len(notes)} diagnostics warn"
        return {"status": "warn", "text": f"{bad}: read them before you rely on this number."}
    return {"status": "pass", "text": f"All {len(notes)} diagnostics passed."}


def _call(verdict: Verdict) -> str:
    """The call in Python that gives this verdict, for runs that no command made."""
    suite, _, changes = verdict.suite.rstrip(")").partition("(")
    given = [f"suite={suite!r}", f"eps={verdict.threat['eps']!r}", *changes.split(",")]
    given += [f"seed={verdict.seed}"]
    words = [f"norm={word[5:]!r}" if word.startswith("norm=") else word for word in given if word]
    return f"robust_snn.evaluate(victim, images, labels, {', '.join(words)})"
