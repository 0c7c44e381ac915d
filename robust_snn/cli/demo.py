"""`robust-snn demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.options import Quiet, Threads, prepare, say


@app.command(epilog="Example: robust-snn demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Attack two small networks on digits: what attacks claim, and what holds."""
    from robust_snn.cli.demonstration import render, run

    bar = prepare(threads, quiet)
    say(render(run(out, progress=bar)))
    for page in sorted(out.glob("*/verdict/report.html")):
        say(f"report in {page}")
