"""`robust-snn study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import command, say, start_logging


@app.command(
    epilog="Example: robust-snn study --plan newer-defences --data cifar10 --out runs/study"
)
def study(
    data: Annotated[str, typer.Option(help=f"What to train on: {options.DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder of all cells and of the page.")],
    plan: Annotated[
        str, typer.Option(help="newer-defences, or a .yaml file; see docs/defences.md.")
    ] = "newer-defences",
    test_data: Annotated[str | None, typer.Option(help="What to attack, likewise.")] = None,
    data_root: options.DataRoot = None,
    defence: Annotated[
        list[str] | None, typer.Option(help="A defence of the plan instead of all; repeatable.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="A seed instead of the plan's; repeatable.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="Images attacked.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say about how long it takes; keep nothing.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Cells at the same time on a Ray cluster.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or local to start one.")
    ] = None,
    threads: options.Threads = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train and attack a matrix of defences, and write one page. The same command resumes it, and
    shares the work with others that are at it."""
    from robust_snn.cli.training_inputs import training_data
    from robust_snn.eval.defence_study import study as run
    from robust_snn.eval.protocol.study_plan import load_plan
    from robust_snn.eval.reporting.page_templates import is_newest
    from robust_snn.eval.reporting.study_page import PAGE, render_study, render_study_cost
    from robust_snn.eval.study_cost import study_cost
    from robust_snn.utils.user_files import check_output_folder

    options.set_threads(threads)
    bar = start_logging(quiet)
    if not dry_run:
        check_output_folder(out, "the study")
    asked = load_plan(plan).only(defence or [], seed or [], n)
    found_data = training_data(data, test_data, data_root, asked.size, asked.trained_on)
    images, test = (each.loaded() for each in found_data)  # which every cell reads again
    if dry_run:
        costs = study_cost(asked, images, test, options.chosen_device(device))
        say(render_study_cost(costs, len(asked.seeds)))
        return
    found = run(
        asked,
        images,
        test,
        out=out,
        device=options.chosen_device(device),
        workers=workers,
        ray=ray,
        progress=bar,
        command=command(),
    )
    say(render_study(found))
    say(f"numbers in {(numbers := out / 'study.json')}")
    if is_newest(page := out / PAGE, numbers):
        say(f"page in {page}")
