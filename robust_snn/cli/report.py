"""`robust-snn report`."""

from __future__ import annotations

from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import say


@app.command(epilog="Example: robust-snn report runs/verdict")
def report(
    run: Annotated[str, typer.Argument(help="Folder of a finished run, or its URL.")],
) -> None:
    """Write a run's report.html again. It is one page that works offline and prints."""
    from robust_snn.eval.reporting.html import write_report

    say(f"report in {write_report(run)}")
