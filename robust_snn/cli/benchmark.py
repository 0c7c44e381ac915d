"""`robust-snn benchmark`."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.user_files import check_output_folder


@app.command(epilog="Example: robust-snn benchmark --all --out benchmarks")
def benchmark(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="layers, convolutions, sparse_choice, steps, eot, scaling, memory, foreign, "
            "training, first_call; on a GPU layers, steps, eot, scaling, memory, training, "
            "kernels, compiled.",
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
    out: Annotated[
        Path,
        typer.Option(help="Folder of the tables and pictures; those of a GPU go to its cuda/."),
    ] = Path("runs/benchmark"),
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Time the kernels. Plain loops, other libraries and the machine's floor stand beside them."""
    from rich.table import Table

    from robust_snn.benchmarks import PARTS, run_part
    from robust_snn.benchmarks.timing import CLOCKS

    check_output_folder(out, "the tables")
    if kernels != static:
        raise InputError("--kernels and --static go together: they compile the Triton kernels")
    if (card := options.chosen_device(device)) != "cpu":
        _on_a_gpu(card, parts or [], everything, rounds, clock, out)
        return
    chosen = list(PARTS) if everything else [*(parts or ()), *(["static"] if static else [])]
    if not chosen:
        raise InputError(f"name a part ({', '.join(PARTS)}) or give --all")
    if clock not in CLOCKS:
        raise unknown("clock", clock, CLOCKS)
    if rounds is not None and rounds < 1:
        raise InputError(f"--rounds must be at least 1, got {rounds}")
    options.set_threads(threads)
    start_logging(quiet=True)
    for part in chosen:
        rows = run_part(part, out, rounds, clock)
        table = Table(*rows[0], title=part)
        for row in rows:
            table.add_row(*map(str, row.values()))
        say(table)


def _on_a_gpu(
    device: str, parts: list[str], everything: bool, rounds: int | None, clock: str, out: Path
) -> None:
    """Runs parts on a GPU; one that fails costs itself. Short tables come last."""
    import torch

    from robust_snn.benchmarks import run_device_part
    from robust_snn.benchmarks.cuda.device_parts import DEVICE_PARTS, short_table

    if clock != "wall":
        raise InputError("--clock is for CPUs; a GPU is timed by its own events")
    chosen = list(DEVICE_PARTS) if everything else parts
    if not chosen:
        raise InputError(f"name a part ({', '.join(DEVICE_PARTS)}) or give --all")
    for part in chosen:
        if part not in DEVICE_PARTS:
            raise unknown("part of the benchmark on a GPU", part, DEVICE_PARTS)
    tables, failed = {}, []
    for part in chosen:
        start = time.perf_counter()
        try:
            tables[part] = run_device_part(part, out / "cuda", torch.device(device), rounds)
        except Exception as error:
            failed.append(f"{part} failed: {type(error).__name__}: {error}")
            traceback.print_exc()
        say(f"{part}: {time.perf_counter() - start:.0f} s")
    for part, rows in tables.items():
        say(short_table(part, rows))
    if failed:
        raise RuntimeError("; ".join(failed))
