"""`diagnosis.html` and `diagnosis.json`: a diagnosis for a reader, and for a program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_snn.diagnostics import Diagnosis
from robust_snn.eval.reporting import diagnosis_figures as figures
from robust_snn.eval.reporting.html import ORDER
from robust_snn.eval.reporting.page_templates import template
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.gradients import parse_mode
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.share_texts import percent
from robust_snn.utils.user_files import output_folder
from robust_snn.utils.version import __version__

DIAGNOSIS_SCHEMA = 1
CHECKS = {  # of the figures: the checks that they belong to
    "eps": ("accuracy over eps", "collapse"),
    "steps": ("accuracy over steps", "iterative against single-step"),
    "random points": ("white-box against noise",),
    "draws": ("EOT convergence",),
}


def write_diagnosis(diagnosis: Diagnosis, about: Mapping[str, Any], out: Path) -> Path:
    """Writes `diagnosis.json`, and `diagnosis.html` beside it.

    Args:
        diagnosis: What was found.
        about: `model` and `data`, their names; `command`, which found it.
        out: The folder.

    Returns:
        Path of the page.

    Raises:
        InputError: If there is a file in the folder's place.
        ImportError: If Jinja2 or matplotlib is not installed; the JSON file is there.
    """
    output_folder(out, "the diagnosis")
    tree = {"schema": DIAGNOSIS_SCHEMA, "version": __version__, **about, **diagnosis.to_json()}
    write_json(out / "diagnosis.json", tree)
    write_text(out / "diagnosis.html", diagnosis_page(diagnosis, about))
    return out / "diagnosis.html"


def diagnosis_page(diagnosis: Diagnosis, about: Mapping[str, Any]) -> str:
    """The page as HTML; the arguments are those of `write_diagnosis`."""
    return template("diagnosis.html").render(
        found=diagnosis,
        about=about,
        gradient=parse_mode(diagnosis.gradient).brief,
        conclusion=conclusion(diagnosis),
        status=_worst(diagnosis),
        paragraph=paragraph(diagnosis, about),
        notes=sorted(diagnosis.notes, key=lambda note: ORDER.index(note.status)),
        results=[
            {
                "mode": parse_mode(result.gradient).brief,
                "accuracy": result.accuracy,
                "flaw": result.flaw,
                "judged": result.gradient == diagnosis.gradient,
            }
            for result in diagnosis.results
        ],
        by_mode=(
            figures.by_mode(
                [result.gradient for result in diagnosis.results],
                [result.accuracy for result in diagnosis.results],
                judged=diagnosis.gradient,
            )
            if diagnosis.results
            else None
        ),
        agreement=(
            figures.agreement(diagnosis.compared, diagnosis.cosines)
            if len(diagnosis.compared) > 1
            else None
        ),
        margin=None if diagnosis.margin is None else figures.margin(diagnosis.margin),
        curves=[
            {
                "name": name,
                "points": points,
                "checks": ", ".join(CHECKS[name]),
                "chart": figures.curve(name, points),
            }
            for name, points in diagnosis.curves.items()
            if len(points) > 1
        ],
        unmeasured=unmeasured(diagnosis),
    )


def unmeasured(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """What the page does not show, and why."""
    found = list(diagnosis.missing)
    told = {what for what, _ in found}
    if len(diagnosis.compared) < 2 and "Agreement of gradient modes" not in told:
        found.append(("Agreement of gradient modes", "the network takes fewer than two"))
    for name, checks in CHECKS.items():
        if len(diagnosis.curves.get(name, ())) < 2:
            said = [note.why for note in diagnosis.notes if note.name in checks]
            found.append((f"Over {name}", said[0] if said else "not measured"))
    return found


def conclusion(diagnosis: Diagnosis) -> str:
    """What the checks mean together, in one sentence."""
    checks = len(diagnosis.notes)
    warned = sum(note.status == "warn" for note in diagnosis.notes)
    if failed := diagnosis.failed:
        return (
            f"{len(failed)} of {checks} checks failed ({', '.join(failed)}): the gradient misleads "
            "attacks, and an accuracy that was measured with it is an upper bound."
        )
    if warned:
        return f"No check failed; {warned} of {checks} warn: read them before you rely on it."
    return f"All {checks} checks passed: no sign of a masked gradient."


def paragraph(diagnosis: Diagnosis, about: Mapping[str, Any]) -> str:
    """What a paper can quote."""
    threat, judged = diagnosis.threat, parse_mode(diagnosis.gradient).brief
    text = (
        f"We looked for gradient masking with robust_snn {__version__}, on {diagnosis.images} "
        f"images of {about['data']} that {about['model']} classifies correctly ({threat['norm']}, "
        f"eps = {radius_text(threat['eps'])}; gradient mode {judged}). {conclusion(diagnosis)}"
    )
    if diagnosis.results:
        best = diagnosis.results[0]
        text += (
            f" Of {len(diagnosis.results)} gradient modes, short attacks with "
            f"{parse_mode(best.gradient).brief} left the fewest images ({percent(best.accuracy)})"
        )
        own = [r.accuracy for r in diagnosis.results if r.gradient == diagnosis.gradient]
        text += f"; the judged mode left {percent(own[0])}." if own else "."
    return text


def _worst(diagnosis: Diagnosis) -> str:
    return min((note.status for note in diagnosis.notes), key=ORDER.index)
