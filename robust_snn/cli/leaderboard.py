"""`robust-snn leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import say


@app.command(
    epilog="Example: robust-snn leaderboard runs/a runs/b --html board.html --csv board.csv"
)
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or verdict.json files.")],
    html: Annotated[Path | None, typer.Option(help="Write a sortable page there.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write JSON there.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV there.")] = None,
) -> None:
    """Rank runs of one threat model by robust accuracy."""
    from robust_snn.eval.reporting.leaderboard import (
        rank_runs,
        render_leaderboard,
        write_leaderboard,
    )

    board = rank_runs(runs)
    say(render_leaderboard(board))
    for path in write_leaderboard(board, html=html, json_file=json, csv_file=csv):
        say(f"leaderboard in {path}")
