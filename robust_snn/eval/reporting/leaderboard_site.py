"""Leaderboards as a site: one page with filters, and one for every entry."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.eval.reporting.leaderboard import Leaderboard, LeaderboardEntry, rank_runs
from robust_snn.eval.reporting.page_templates import page_script, template
from robust_snn.eval.reporting.terminal import passes_per_image, radius_text
from robust_snn.eval.scoring.finished_run import load_run, load_verdict, verdict_path
from robust_snn.eval.scoring.predictions import NAME
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.submission.submission_folder import FILES
from robust_snn.gradients import parse_mode
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_files import output_folder

INDEX = "index.html"
SHOWN = 200  # images that a page names


@dataclass(frozen=True)
class BestKnown:
    """The lowest accuracy of every image over all accepted runs of one network.

    Attributes:
        accuracy: Its mean over images.
        runs: Number of runs that it is taken over.
        left: Images that are right in most draws after all of them.
        others: Images that this entry left, by the run that broke them.
    """

    accuracy: float
    runs: int
    left: tuple[int, ...]
    others: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class SitePage:
    """An entry with what its page shows."""

    entry: LeaderboardEntry
    board: Leaderboard
    verdict: Verdict
    best: BestKnown | None
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


def best_known(runs: Sequence[str | Path], of: str | Path) -> BestKnown:
    """The lowest accuracy of every image over runs of one network on the same images.

    A noisy network's accuracies are shares of draws, whose minimum over many runs is a little low.

    Args:
        runs: The runs.
        of: The one among them that the others are set against.
    """
    accuracies = {str(run): _accuracies(run) for run in runs}
    lowest = np.min(list(accuracies.values()), axis=0)
    own = accuracies[str(of)]
    others = {
        run: tuple(np.flatnonzero((own >= 0.5) & (values < 0.5)).tolist())
        for run, values in accuracies.items()
    }
    return BestKnown(
        float(lowest.mean()),
        len(accuracies),
        tuple(np.flatnonzero(lowest >= 0.5).tolist()),
        {run: images for run, images in others.items() if images},
    )


def threat_text(board: Leaderboard) -> str:
    """Threat model and images of a leaderboard, by which a site filters."""
    radius = radius_text(board.threat["eps"])
    return f"{board.threat['norm']}, {radius}, {board.data['n']} of {board.data['name']}"


def _boards(runs: Sequence[str | Path]) -> list[Leaderboard]:
    groups: dict[tuple[Any, ...], list[str | Path]] = {}
    for run in runs:
        verdict = Verdict.load(verdict_path(run))
        key = verdict.threat["norm"], verdict.threat["eps"], verdict.data["sha256"]
        groups.setdefault(key, []).append(run)
    if not groups:
        raise InputError("a leaderboard needs at least one run")
    return [rank_runs(group) for group in groups.values()]


def _pages(board: Leaderboard) -> list[SitePage]:
    verdicts = {entry.run: load_verdict(entry.run)[0] for entry in board.entries}
    accepted = [e for e in board.entries if e.verified is not False and _has_images(e)]
    pages = []
    for entry in board.entries:
        same = [
            e.run for e in accepted if _network(verdicts[e.run]) == _network(verdicts[entry.run])
        ]
        best = best_known(same, entry.run) if entry.run in same else None
        word = re.sub(r"[^A-Za-z0-9_.-]+", "-", entry.run).strip("-.") or "run"
        pages.append(SitePage(entry, board, verdicts[entry.run], best, f"entries/{word}/{INDEX}"))
    return pages


def _has_images(entry: LeaderboardEntry) -> bool:
    return entry.counted and (Path(entry.run) / NAME).exists()


def _network(verdict: Verdict) -> tuple[Any, ...]:
    """What tells networks apart: weights, and the arguments that they are run with."""
    model = verdict.model
    return model["weights_sha256"], repr(sorted(model.get("kwargs", {}).items()))


def _accuracies(run: str | Path) -> np.ndarray:
    """Share of the report draws that are right on every image's worst version, `[N]`."""
    predictions = load_run(run)[1]
    right: np.ndarray = (predictions.worst == predictions.labels[:, None]).mean(1)
    return right


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
            "gradient": parse_mode(row.gradient).brief,
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
