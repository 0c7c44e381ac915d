"""`robust-snn leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import say
from robust_snn.utils.errors import InputError


@app.command(
    epilog="Example: robust-snn leaderboard runs/a runs/b --html board.html --csv board.csv"
)
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or verdict.json files.")],
    html: Annotated[Path | None, typer.Option(help="Write a sortable page there.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write JSON there.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV there.")] = None,
    site: Annotated[
        Path | None,
        typer.Option(help="Folder of a site: runs of any threat model, a page for each."),
    ] = None,
) -> None:
    """Rank runs and submissions by robust accuracy. Those of many threat models make a site."""
    from robust_snn.eval.reporting.leaderboard import rank_runs
    from robust_snn.eval.reporting.leaderboard_output import render_leaderboard, write_leaderboard

    if site is not None:
        from robust_snn.eval.reporting.leaderboard_site import write_site

        if not (html is None and json is None and csv is None):
            raise InputError("--site writes pages of its own: leave --html, --json and --csv out")
        say(f"leaderboard in {write_site(runs, site)}")
        return
    board = rank_runs(runs)
    say(render_leaderboard(board))
    for path in write_leaderboard(board, html=html, json_file=json, csv_file=csv):
        say(f"leaderboard in {path}")
