"""`robust-snn submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import say


@app.command(epilog="Example: robust-snn submit runs/verdict --out runs/submission")
def submit(
    run: Annotated[str, typer.Argument(help="Folder of a finished run, or its URL.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to make; beside a folder, RUN-submission if left out."),
    ] = None,
) -> None:
    """Make a folder of a run that others can verify. A leaderboard can take it."""
    from robust_snn.eval.submission import submit as made

    folder = made(run, out)
    say(f"submission in {folder}; say in {folder / 'README.md'} who made it")
