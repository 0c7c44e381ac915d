"""`robust-snn evaluate`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import command, log_lines, say, start_logging
from robust_snn.utils.errors import InputError
from robust_snn.utils.optional_work import if_possible
from robust_snn.utils.places import place
from robust_snn.utils.user_files import check_output_folder

OF_LOADING = 1.7  # times loading the libraries: that, the report's own libraries and its figures

if TYPE_CHECKING:
    from robust_snn.data import OpenImageSet
    from robust_snn.eval import Verdict
    from robust_snn.victim import Victim


@app.command(
    epilog="Example: robust-snn evaluate --model snn_vgg5_stog.digits --data digits -n 8 "
    "--suite quick --eps 0.1 --out runs/first"
)
def evaluate(
    data: Annotated[str, typer.Option(help=f"What to attack: {options.DATA}.")],
    out: Annotated[
        str,
        typer.Option(help="Folder of the run and its verdict.json, or a URL as s3://bucket/run."),
    ],
    model: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    checkpoint: options.Checkpoint = None,
    adapting: options.Adapt = None,
    data_root: options.DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of images; all if left out.")] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Instead of -n and --draws: half the interval's width, such as 0.01."),
    ] = None,
    pilot: Annotated[
        str | None,
        typer.Option(help="Folder of an earlier run, or its URL, that --precision learns from."),
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            help="What attacks: quick for a first look, adaptive-small, adaptive to publish, "
            "adaptive-large, autoattack-standard, autoattack-rand, a paper's, or a .yaml file; "
            "attacks of yours that it names, implementation: file.py:attack, run their code."
        ),
    ] = "quick",
    eps: Annotated[
        str | None, typer.Option(help="Radius, such as 8/255, instead of the suite's.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="Instead of the suite's: Linf, L2, L1 or L0.")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Noise draws that give the number, instead of the suite's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of every attack, instead of the suite's.")
    ] = None,
    eot: Annotated[
        int | None, typer.Option(help="Draws that attacks average, instead of the suite's.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=VALUES",
            help="Also vary eps, steps, eot, gradient or T, as in eps=0,2/255,4/255; repeatable.",
        ),
    ] = None,
    source_checkpoint: Annotated[
        Path | None, typer.Option(help="Another trained network, from which attacks transfer.")
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(help="Folder of robust-snn certify --eps: its certified accuracy is shown."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images attacked together; 64.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would run and what it would cost; run nothing."),
    ] = False,
    keep: Annotated[
        str,
        typer.Option(help="Adversarial images that stay: worst of each image, all, or none."),
    ] = "worst",
    seed: options.Seed = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the work, 1; see docs/scale.md.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or local to start one.")
    ] = None,
    gpu_share: Annotated[
        float, typer.Option(help="Of a GPU that each worker on a Ray cluster takes, as 0.5.")
    ] = 1.0,
    quiet: options.Quiet = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log lines as JSON, for machines.")
    ] = False,
) -> None:
    """Measure robust accuracy. The same command resumes a killed run."""
    from robust_snn.cli.inputs import load_subject, split_calibration
    from robust_snn.eval import load_suite
    from robust_snn.eval.execution.preflight import CALIBRATION
    from robust_snn.eval.protocol.sweep_axes import radius, read_axes
    from robust_snn.training.checkpoint import load_model

    options.set_threads(threads)
    bar = start_logging(quiet, log_json)
    if not dry_run:
        check_output_folder(out, "the run")
    asked, where = load_suite(suite), options.chosen_device(device)
    axes = asked.sweep if sweep is None else read_axes(sweep, "--sweep")
    n, draws = _size(precision, pilot, n, draws)
    settings: dict[str, Any] = {
        "suite": asked,
        "out": out,
        "eps": None if eps is None else radius(eps, "--eps"),
        "norm": norm,
        "draws": draws,
        "steps": steps,
        "eot": eot,
        "batch_size": batch_size,
        "certificates": certificates,
        "keep": keep,
        "seed": seed,
        "workers": workers,
        "ray": ray,
        "gpu_share": gpu_share,
        "progress": bar or log_lines(),
    }
    if source_checkpoint is not None:
        settings["source"] = load_model(source_checkpoint)[0].to(where)
    some = n if asked.budget is None else None
    subject = load_subject(model, model_kwargs, checkpoint, data, data_root, some, adapting)
    images = subject.images
    if asked.budget is not None:
        images, others = split_calibration(images, n, CALIBRATION)
        settings["calibration"] = others.loaded().images, others.labels
    settings["model_info"] = subject.info
    settings["data_info"] = {"name": images.name, "split": images.split}
    settings["report"] = {"command": command(), "classes": images.classes}
    victim = subject.victim(where, seed=seed)
    if dry_run:
        _say_cost(victim, images, settings, axes)
        return
    if axes:
        from robust_snn.eval import sweep as run_sweep

        verdict, _ = run_sweep(victim, images.images, images.labels, axes, **settings)
    else:
        from robust_snn.eval import evaluate as run

        verdict = run(victim, images.images, images.labels, **settings)
    _show(verdict, place(out))


def _say_cost(
    victim: Victim, images: OpenImageSet, settings: Mapping[str, Any], axes: Mapping[str, Any]
) -> None:
    """Says what an evaluation would run and what it would cost."""
    from robust_snn.eval import estimate
    from robust_snn.eval.reporting.terminal import render_cost

    loading = time.process_time()
    taken = ("suite", "eps", "norm", "draws", "steps", "eot", "source", "batch_size", "seed")
    asked = {key: settings[key] for key in (*taken, "keep", "calibration") if key in settings}
    cost = estimate(victim, images.images, images.labels, **asked)
    points = 1 + sum(len(values) for values in axes.values())
    say(render_cost(cost, OF_LOADING * loading, settings["workers"] or 1, points))


def _size(
    precision: float | None, pilot: str | None, n: int | None, draws: int | None
) -> tuple[int | None, int | None]:
    """Images and report draws: those given, or what a wanted precision needs."""
    if precision is None:
        if pilot is not None:
            raise InputError("--pilot serves --precision; give both or none")
        return n, draws
    if n is not None or draws is not None:
        raise InputError("--precision plans the images and draws: leave out -n and --draws")
    from robust_snn.eval.scoring.sample_size import needed_size

    size = needed_size(precision, pilot)
    log = logging.getLogger("robust_snn.cli")
    log.info("a precision of %g needs %d images", precision, size.images)
    return size.images, size.draws


def _show(verdict: Verdict, run: Path) -> None:
    """Shows a verdict; whatever fails there costs itself."""
    from robust_snn.eval.reporting.html import REPORT_FILE
    from robust_snn.eval.reporting.page_templates import is_newest
    from robust_snn.eval.reporting.published import published_results
    from robust_snn.eval.reporting.terminal import render_published, render_verdict

    def show() -> None:
        say(render_verdict(verdict))
        if (published := published_results(verdict)) is not None:
            say(render_published(verdict, published))

    if_possible("table", show)
    say(f"verdict in {(written := run / 'verdict.json')}")
    if is_newest(page := run / REPORT_FILE, written):
        say(f"report in {page}")
