"""Leaderboards as a site: one page with filters, and one for every entry."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_snn.eval.reporting.leaderboard import Leaderboard, LeaderboardEntry, rank_runs
from robust_snn.eval.reporting.page_templates import page_script, template
from robust_snn.eval.reporting.terminal import passes_per_image, radius_text
from robust_snn.eval.scoring.finished_run import load_verdict, verdict_path
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.submission.submission_folder import FILES
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_files import output_folder

INDEX = "index.html"
SHOWN = 200  # images that a page names


@dataclass(frozen=True)
class SitePage:
    """An entry with what its page shows."""

    entry: LeaderboardEntry
    board: Leaderboard
    verdict: Verdict
    page: str


def write_site(runs: Sequence[str | Path], folder: Path) -> Path:
    """Writes the site; entries of one threat model on the same images are ranked together.

    Args:
        runs: Folders of runs or submissions, or `verdict.json` files.
        folder: The folder of the site.

    Returns:
        Path of its first page.

    Raises:
        InputError: If there is no run, one cannot be read or comes twice, or the place is taken.
        ImportError: If Jinja2 is missing.
    """
    pages = [page for board in _boards(runs) for page in _pages(board)]
    output_folder(folder, "the site")
    script, digest = page_script("sort.js", "filter.js")
    threats = list(dict.fromkeys(threat_text(page.board) for page in pages))
    first = template("leaderboard_site.html").render(
        pages=pages, threats=threats, threat=threat_text, script=script, script_hash=digest
    )
    for page in pages:
        place = folder / page.page
        place.parent.mkdir(parents=True, exist_ok=True)
        copied = _copied(Path(page.entry.run), place.parent)
        write_text(place, _rendered(page, copied))
    write_text(folder / INDEX, str(first))
    return folder / INDEX


def threat_text(board: Leaderboard) -> str:
    """Threat model and images of a leaderboard, by which a site filters."""
    radius = radius_text(board.threat["eps"])
    images = f"{board.data['n']} of {board.data['name']}"
    return f"{board.threat['norm']}, {radius}{board.known_noise}, {images}"


def _boards(runs: Sequence[str | Path]) -> list[Leaderboard]:
    groups: dict[tuple[Any, ...], list[str | Path]] = {}
    for run in runs:
        verdict = Verdict.load(verdict_path(run))
        threat = (verdict.threat.get(name) for name in ("norm", "eps", "noise"))
        key = (*threat, verdict.data["sha256"])
        groups.setdefault(key, []).append(run)
    if not groups:
        raise InputError("a leaderboard needs at least one run")
    return [rank_runs(group) for group in groups.values()]


def _pages(board: Leaderboard) -> list[SitePage]:
    pages = []
    for entry in board.entries:
        word = re.sub(r"[^A-Za-z0-9_.-]+", "-", entry.run).strip("-.") or "run"
        verdict = load_verdict(entry.run)[0]
        pages.append(SitePage(entry, board, verdict, f"entries/{word}/{INDEX}"))
    return pages


def _copied(run: Path, place: Path) -> list[str]:
    """Copies what others can check an entry by, and returns the names."""
    there = [name for name in (*FILES, "report.html") if (run / name).is_file()]
    for name in there:
        shutil.copyfile(run / name, place / name)
    return there


def _rendered(page: SitePage, copied: Sequence[str]) -> str:
    attacks = [
        {
            "row": row,
            "gradient": row.mode,
            "after": row.worst_so_far,
            "passes": passes_per_image(page.verdict, row),
        }
        for row in page.verdict.attacks
    ]
    return str(
        template("leaderboard_entry.html").render(
            page=page, attacks=attacks, copied=copied, threat=threat_text(page.board), most=SHOWN
        )
    )
