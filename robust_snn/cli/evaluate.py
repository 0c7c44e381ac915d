"""`robust-snn evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.logs import log_lines
from robust_snn.cli.options import (
    DATA,
    Checkpoint,
    DataRoot,
    Device,
    Model,
    ModelKwargs,
    Quiet,
    Seed,
    Threads,
    command,
    device_of,
    prepare,
    say,
)
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from robust_snn.eval.scoring.sample_size import Size


@app.command(
    epilog="Example: robust-snn evaluate --checkpoint runs/digits/model.safetensors "
    "--data digits --suite quick --eps 8/255 -n 100 --out runs/verdict"
)
def evaluate(
    data: Annotated[str, typer.Option(help=f"What to attack: {DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder of the run and its verdict.json.")],
    model: Model = None,
    model_kwargs: ModelKwargs = None,
    checkpoint: Checkpoint = None,
    data_root: DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of images.")] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Instead of -n and --draws: half the interval's width, such as 0.01."),
    ] = None,
    pilot: Annotated[
        Path | None, typer.Option(help="Folder of an earlier run that --precision learns from.")
    ] = None,
    suite: Annotated[str, typer.Option(help="Name of a suite, or a .yaml file.")] = "quick",
    eps: Annotated[
        str | None, typer.Option(help="Radius, such as 8/255, instead of the suite's.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="Instead of the suite's: Linf, L2 or L0.")
    ] = None,
    draws: Annotated[int | None, typer.Option(help="Noise draws that give the number.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every attack.")] = None,
    eot: Annotated[int | None, typer.Option(help="Draws that attacks average.")] = None,
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
    batch_size: Annotated[int | None, typer.Option(help="Images attacked together.")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the work; see docs/scale.md.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or local to start one.")
    ] = None,
    quiet: Quiet = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log lines as JSON, for machines.")
    ] = False,
) -> None:
    """Measure robust accuracy; start the same command again to go on after a kill."""
    from robust_snn.cli.inputs import subject
    from robust_snn.eval import load_suite
    from robust_snn.eval import sweep as run
    from robust_snn.eval.execution.preflight import CALIBRATION
    from robust_snn.eval.protocol.sweep_axes import read_axes
    from robust_snn.eval.reporting.published import published
    from robust_snn.eval.reporting.terminal import beside, render
    from robust_snn.foreign import adapt
    from robust_snn.training.checkpoint import load_model
    from robust_snn.utils.values import assignments, number

    bar = prepare(threads, quiet, log_json)
    spare = 0 if load_suite(suite).budget is None else CALIBRATION
    radius = None if eps is None else number(eps, "--eps")
    if radius is not None and radius < 0:
        raise InputError(f"--eps must not be negative, got {eps}")
    axes = None if sweep is None else read_axes(sweep, "--sweep")
    source = None if source_checkpoint is None else load_model(source_checkpoint)[0]
    kwargs = assignments(model_kwargs or (), "--model-kwargs")
    size = _size(precision, pilot, n, draws)
    if size is not None:
        n, draws = size.images, size.draws
        logging.getLogger("robust_snn.cli").info("a precision of %g needs %d images", precision, n)
    net, info, images = subject(model, kwargs, checkpoint, data, data_root, n, spare)
    calibration = None
    if n is not None and len(images) > n:
        calibration = images.images[n:], images.labels[n:]
        images = images.take(n)
    place = device_of(device)
    verdict, _ = run(
        adapt(net.to(place), seed=seed),
        images.images,
        images.labels,
        axes,
        suite=suite,
        out=out,
        eps=radius,
        norm=norm,
        draws=draws,
        steps=steps,
        eot=eot,
        seed=seed,
        calibration=calibration,
        workers=workers,
        ray=ray,
        model_info=info,
        data_info={"name": images.name, "split": images.split},
        source=None if source is None else source.to(place),
        batch_size=batch_size,
        progress=bar or log_lines(),
    )
    say(render(verdict))
    if (known := published(verdict)) is not None:
        say(beside(verdict, known))
    say(f"verdict in {out / 'verdict.json'}")
    page(out, images.classes)


def page(run: Path, classes: Sequence[str]) -> None:
    """Writes a run's report; the run is done, so a missing library costs the page alone."""
    from robust_snn.eval.reporting.html import write_report

    try:
        say(f"report in {write_report(run, command=command(), classes=classes)}")
    except ImportError as error:
        say(f"no report: {error}")


def _size(
    precision: float | None, pilot: Path | None, n: int | None, draws: int | None
) -> Size | None:
    """What a wanted precision needs, if one is wanted."""
    from robust_snn.eval.scoring.sample_size import needed

    if precision is None:
        if pilot is not None:
            raise InputError("--pilot serves --precision; give both or none")
        return None
    if n is not None or draws is not None:
        raise InputError("--precision plans the images and draws: leave out -n and --draws")
    return needed(precision, pilot)
