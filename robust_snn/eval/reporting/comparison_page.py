"""`comparison.html` and `comparison.json`: two runs side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from robust_snn.eval.reporting.charts import (
    CLEAN,
    INK,
    ROBUST,
    Chart,
    chart,
    legend_above,
    name_rows,
    new_axes,
    short_label,
)
from robust_snn.eval.reporting.page_templates import template
from robust_snn.eval.scoring.compare import Comparison
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.share_texts import points, points_span
from robust_snn.utils.user_files import output_folder
from robust_snn.utils.version import __version__

COMPARISON_SCHEMA = 1


def write_comparison(comparison: Comparison, out: Path, command: str | None = None) -> Path:
    """Writes `comparison.json`, and `comparison.html` beside it.

    Args:
        comparison: What differs.
        out: The folder.
        command: The command that compared, for the record.

    Returns:
        Path of the page.

    Raises:
        InputError: If there is a file in the folder's place.
        ImportError: If Jinja2 or matplotlib is not installed; the JSON file is there.
    """
    output_folder(out, "the comparison")
    write_json(out / "comparison.json", comparison_json(comparison))
    write_text(out / "comparison.html", comparison_page(comparison, command))
    return out / "comparison.html"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    tree = asdict(comparison)
    runs = {name: getattr(comparison, name).to_dict() for name in ("first", "second")}
    return {"schema": COMPARISON_SCHEMA, "version": __version__, **tree, **runs}


def comparison_page(comparison: Comparison, command: str | None = None) -> str:
    """The page as HTML; the arguments are those of `write_comparison`."""
    found = template("comparison.html").render(
        found=comparison,
        runs=(("A", comparison.first), ("B", comparison.second)),
        conclusion=conclusion(comparison),
        changes=_changes(comparison),
        kept=_kept(comparison),
        diagnostics=_diagnostics(comparison.first, comparison.second),
        command=command,
    )
    return str(found)


def conclusion(comparison: Comparison) -> str:
    """What the difference in robust accuracy is, and how far it may be relied on."""
    row = next(row for row in comparison.differences if row.what == "robust accuracy")
    low, high = row.ci
    interval = f"(95% interval: {points_span(row.ci)})"
    if low <= 0 <= high:
        return (
            f"The runs are not told apart: B's robust accuracy is {points(row.change)} points "
            f"from A's {interval}."
        )
    word = "more" if row.change > 0 else "less"
    by = f"by {points(abs(row.change))[1:]} points {interval}"
    if comparison.unlike:
        return f"B keeps {word} than A, {by}, which tells little: see the notes."
    return f"B is {word} robust than A under these attacks, {by}."


def _changes(comparison: Comparison) -> Chart:
    """B minus A, with intervals."""
    rows: list[tuple[str, float, float, float]] = []
    rows += [(row.what, row.change, *row.ci) for row in comparison.differences]
    rows += [
        (pair.name, pair.change.value, *pair.change.ci)
        for pair in comparison.attacks
        if pair.change is not None
    ]
    figure, axes = new_axes(0.8 + 0.32 * len(rows))
    at = range(len(rows))
    _, change, low, high = zip(*rows, strict=True)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.hlines(at, low, high, color=CLEAN, linewidth=5, alpha=0.35)
    axes.plot(change, at, "o", color=CLEAN)
    labels = [short_label(name) for name, *_ in rows]
    name_rows(axes, labels, "B minus A; bars are 95% intervals")
    axes.grid(axis="x", alpha=0.3)
    return chart("differences", figure, ["what", "B - A", "low", "high"], rows)


def _kept(comparison: Comparison) -> Chart | None:
    """What each keeps under every attack; None where there is none."""
    pairs = comparison.attacks
    if not pairs:
        return None
    figure, axes = new_axes(0.9 + 0.4 * len(pairs))
    table: list[tuple[Any, ...]] = []
    for label, side, colour, shift in (("A", "first", CLEAN, -0.2), ("B", "second", ROBUST, 0.2)):
        shown = [(n, getattr(pair, side)) for n, pair in enumerate(pairs)]
        there = [(n, estimate) for n, estimate in shown if estimate is not None]
        at = [n + shift for n, _ in there]
        axes.barh(at, [e.value for _, e in there], 0.36, color=colour, label=label)
        axes.hlines(
            at, [e.ci[0] for _, e in there], [e.ci[1] for _, e in there], color=INK, linewidth=1
        )
        table += [(pairs[n].name, label, e.value, *e.ci) for n, e in there]
    labels = [short_label(pair.name) for pair in pairs]
    name_rows(axes, labels, "accuracy; lines are 95% intervals")
    axes.set_xlim(0, 1.02)
    legend_above(figure, 2)
    return chart("kept", figure, ["attack", "run", "accuracy", "low", "high"], table)


def _diagnostics(first: Verdict, second: Verdict) -> list[dict[str, Any]]:
    """The checks of both by name; those that one run lacks are None there."""
    sides = [{note.name: note for note in verdict.diagnostics} for verdict in (first, second)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [{"name": name, "notes": [side.get(name) for side in sides]} for name in names]
