"""`robust-snn benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.cli.options import Threads, set_threads
from robust_snn.utils.errors import InputError, unknown


@app.command(epilog="Example: robust-snn benchmark --all --out benchmarks")
def benchmark(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="layers, convolutions, steps, eot, scaling, memory, training, first_call.",
            metavar="PART...",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every part.")] = False,
    kernels: Annotated[bool, typer.Option("--kernels", help="The Triton kernels.")] = False,
    static: Annotated[
        bool,
        typer.Option("--static", help="With --kernels: compile only, without a GPU."),
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="Rounds of every part.")] = None,
    clock: Annotated[
        str, typer.Option(help="wall, or cpu with --threads 1 on a busy machine.")
    ] = "wall",
    out: Annotated[Path, typer.Option(help="Folder of the tables and pictures.")] = Path(
        "runs/benchmark"
    ),
    threads: Threads = None,
) -> None:
    """Time the kernels against plain loops, other libraries and the floor of this machine."""
    from rich.table import Table

    from robust_snn.benchmarks import PARTS, run_part
    from robust_snn.benchmarks.timing import CLOCKS

    if kernels != static:
        raise InputError("--kernels and --static go together: they compile the Triton kernels")
    chosen = list(PARTS) if everything else [*(parts or ()), *(["static"] if static else [])]
    if not chosen:
        raise InputError(f"name a part ({', '.join(PARTS)}) or give --all")
    if clock not in CLOCKS:
        raise unknown("clock", clock, CLOCKS)
    if rounds is not None and rounds < 1:
        raise InputError(f"--rounds must be at least 1, got {rounds}")
    set_threads(threads)
    start_logging(quiet=True)
    for part in chosen:
        rows = run_part(part, out, rounds, clock)
        table = Table(*rows[0], title=part)
        for row in rows:
            table.add_row(*map(str, row.values()))
        say(table)
