"""Leaderboards as a page, as JSON, as CSV and as a table of the terminal."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table

from robust_snn.eval.reporting.best_known import BestKnown
from robust_snn.eval.reporting.leaderboard import Leaderboard, LeaderboardEntry
from robust_snn.eval.reporting.page_templates import page_script, template
from robust_snn.eval.reporting.tables import guarded
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.errors import InputError
from robust_snn.utils.share_texts import percent, span

LEADERBOARD_SCHEMA = 1


def write_leaderboard(
    board: Leaderboard,
    *,
    html: Path | None = None,
    json_file: Path | None = None,
    csv_file: Path | None = None,
) -> list[Path]:
    """Writes a leaderboard in the forms that are asked for, and returns their paths.

    Raises:
        InputError: If one cannot be written.
        ImportError: If Jinja2 is missing for the page.
    """
    written = []
    try:
        if html is not None:
            write_text(html, leaderboard_page(board, html.parent))
            written.append(html)
        if json_file is not None:
            write_json(json_file, {"schema": LEADERBOARD_SCHEMA, **asdict(board)})
            written.append(json_file)
        if csv_file is not None:
            write_text(csv_file, leaderboard_csv(board))
            written.append(csv_file)
    except OSError as error:
        raise InputError(f"cannot write the leaderboard: {error}") from None
    return written


def leaderboard_page(board: Leaderboard, place: Path) -> str:
    """The leaderboard as one sortable page.

    Args:
        board: The leaderboard.
        place: Folder that the page will lie in; links to reports start there.
    """
    reports = {
        entry.run: Path(os.path.relpath(Path(entry.run) / "report.html", place)).as_posix()
        for entry in board.entries
        if (Path(entry.run) / "report.html").exists()
    }
    script, digest = page_script("sort.js")
    return str(
        template("leaderboard.html").render(
            board=board, reports=reports, script=script, script_hash=digest
        )
    )


def leaderboard_csv(board: Leaderboard) -> str:
    """The leaderboard as CSV; texts that a spreadsheet would take for formulas are quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(LeaderboardEntry)] + ["norm", "eps", "data"])
    for entry in board.entries:
        values = [_cell(getattr(entry, f.name)) for f in fields(LeaderboardEntry)]
        threat = [board.threat["norm"], board.threat["eps"], _cell(board.data["name"])]
        writer.writerow([*values, *threat])
    return text.getvalue()


def render_leaderboard(board: Leaderboard) -> Table:
    """The leaderboard for a terminal."""
    title = (
        f"{board.threat['norm']}, eps = {radius_text(board.threat['eps'])}{board.known_noise}, "
        f"{board.data['n']} images of {board.data['name']}"
    )
    shown = Table(title=title)
    shown.add_column("rank", justify="right")
    shown.add_column("model")
    for column in ("clean", "robust", "95%", "best known", "certified"):
        shown.add_column(column, justify="right")
    shown.add_column("suite")
    shown.add_column("diagnostics")
    for entry in board.entries:
        notes = [f"not {word}" for word in entry.missing]
        notes += [f"failed: {', '.join(entry.failed)}"] if entry.failed else []
        notes += [f"{len(entry.warned)} warn"] if entry.warned else []
        notes += [] if entry.counted else ["no results.npz to check it by"]
        shown.add_row(
            "-" if entry.rank is None else str(entry.rank),
            entry.model,
            percent(entry.clean),
            percent(entry.robust),
            span((entry.low, entry.high)),
            "" if entry.best is None else percent(entry.best.accuracy),
            "" if entry.certified is None else percent(entry.certified),
            entry.suite,
            "; ".join(notes) or "passed",
        )
    return shown


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        value = "; ".join(value)
    if isinstance(value, BestKnown):
        value = value.accuracy
    return "" if value is None else guarded(value)
