"""`robust-snn certify`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import log_lines, say, start_logging
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from robust_snn.eval import Progress

BATCH = 8  # images between two writes
MEANINGS = {
    "clean": "classified correctly",
    "certified": "certified: no image in the ball is misclassified",
    "broken": "broken: one is",
    "open": "open: neither is proven",
}


@app.command(
    epilog="Example: robust-snn certify --model snn_vgg5.digits --data digits -n 50 "
    "--noise 'gaussian(sigma=0.25)' --out runs/certificate"
)
def certify(
    data: Annotated[str, typer.Option(help=f"What to certify: {options.DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder of the certificates.")],
    model: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    checkpoint: options.Checkpoint = None,
    adapting: options.Adapt = None,
    data_root: options.DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of images.")] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Certify the network smoothed by noise: gaussian(sigma=0.25), an L2 radius, or "
            "rate, an L1 radius of networks with Poisson coding."
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Noise draws that bound a class's probability; 1000.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Without --noise: radius in Linf that bounds are proven for.")
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(help="Combinations of spikes that are tried per image, 2000; 0 for none."),
    ] = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Prove what no attack can do. The same command resumes a killed run."""
    from robust_snn.certificates.certificate_folder import CERTIFICATE_FORMAT, CertificateFolder
    from robust_snn.certificates.certificate_tasks import BoundsTask, CertificateTask, SmoothingTask
    from robust_snn.cli.inputs import load_subject
    from robust_snn.foreign.identity import identity
    from robust_snn.utils.progress_bar import progress_listener
    from robust_snn.utils.user_files import check_output_folder
    from robust_snn.utils.values import number
    from robust_snn.utils.version import __version__

    _check_options(noise, draws, eps, nodes)
    options.set_threads(threads)
    bar = start_logging(quiet)
    check_output_folder(out, "the certificates")
    subject = load_subject(model, model_kwargs, checkpoint, data, data_root, n, adapting=adapting)
    victim, images = subject.victim(options.chosen_device(device), seed=seed), subject.loaded
    task: CertificateTask
    if noise is not None:
        task = SmoothingTask(victim, images, noise, 1000 if draws is None else draws)
    else:
        task = BoundsTask(
            victim, images, number(str(eps), "--eps"), 2000 if nodes is None else nodes
        )
    configuration = {
        "model": {**subject.info, **identity(victim, images.images)},
        "data": {"name": images.name, "split": images.split, "sha256": images.sha256},
        "seed": seed,
        "robust_snn": __version__,
        "format": CERTIFICATE_FORMAT,
        **task.settings,
    }
    folder = CertificateFolder(out, configuration)
    with progress_listener(bar or log_lines()) as listener:
        show = partial(_report, listener, time.monotonic(), len(folder.rows), len(images))
        rows = folder.finish(len(images), BATCH, task.rows, show)
    result = task.result(rows)
    folder.conclude(result)
    say(_table(task.settings, result, len(images)))
    say(f"certificates in {out / 'certificates.csv'}")


def _check_options(
    noise: str | None, draws: int | None, eps: str | None, nodes: int | None
) -> None:
    if (noise is None) == (eps is None):
        raise InputError(
            "say what to certify: --eps 0.01 for bounds of a deterministic network, or "
            "--noise 'gaussian(sigma=0.25)' for the network smoothed by noise"
        )
    if noise is None and draws is not None:
        raise InputError("--draws serves --noise; bounds draw nothing")
    if eps is None and nodes is not None:
        raise InputError("--nodes serves --eps; smoothing tries no combinations of spikes")


def _report(
    listener: Callable[[Progress], None], began: float, first: int, count: int, done: int
) -> None:
    """Reports how many of the images are finished; the first ones were before it began."""
    from robust_snn.eval import Progress

    seconds = time.monotonic() - began
    left = seconds * (count - done) / (done - first)
    listener(Progress(done / count, seconds, left, f"{done} of {count} images", None))


def _table(settings: dict[str, Any], result: dict[str, Any], count: int) -> Table:
    """The result as a table."""
    import numpy as np
    from rich.table import Table

    from robust_snn.eval.scoring.intervals import accuracy_estimate
    from robust_snn.utils.share_texts import percent, span

    def row(name: str, share: float) -> None:
        right = np.arange(count) < round(share * count)
        table.add_row(name, percent(share), span(accuracy_estimate(right[:, None]).ci))

    if settings["method"] == "bounds":
        table = Table("of the images", "share", "95%")
        table.title = f"{count} images, {settings['norm']}, eps = {settings['eps']:.4g}"
        for name, meaning in MEANINGS.items():
            row(meaning, result[name])
        return table
    table = Table(f"radius in {settings['norm']}", "certified accuracy", "95%")
    table.title = (
        f"{count} images under {settings['noise']}, {percent(result['abstained'])} without an "
        f"answer; each certificate may be wrong with chance {settings['alpha']:g}"
    )
    for radius, share in result["certified"].items():
        row(radius, share)
    return table
