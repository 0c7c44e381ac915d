"""`robust-snn diagnose`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import command, say, start_logging
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from rich.console import Group

    from robust_snn.diagnostics import Diagnosis

FAILED = 3  # the exit code after a check that failed


@app.command(
    epilog="Example: robust-snn diagnose --model snn_vgg5.digits --data digits -n 16 --eps 0.1 "
    "--out runs/diagnosis"
)
def diagnose(
    data: Annotated[str, typer.Option(help=f"Images to look at: {options.DATA}.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of diagnosis.html and diagnosis.json.")
    ] = None,
    model: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    checkpoint: options.Checkpoint = None,
    adapting: options.Adapt = None,
    data_root: options.DataRoot = None,
    n: Annotated[int, typer.Option("-n", help="Number of images.")] = 32,
    gradient: Annotated[
        str | None, typer.Option(help="Gradient mode to judge; the network's own.")
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="Radius, such as 8/255, which is that of Linf if left out; L2 needs one."
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="Linf or L2.")] = "Linf",
    no_fail: Annotated[
        bool, typer.Option("--no-fail", help="Exit with 0 even if a check fails.")
    ] = False,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Look for signs of a masked gradient. The exit code is 3 if a check fails."""
    from robust_snn.attacks import PGD
    from robust_snn.attacks.mode_reach import tried_reach
    from robust_snn.attacks.threat_radius import checked_radius, own_radius
    from robust_snn.cli.inputs import load_subject
    from robust_snn.diagnostics import diagnose as found_by
    from robust_snn.eval.reporting.diagnosis_page import write_diagnosis
    from robust_snn.eval.reporting.page_templates import check_page
    from robust_snn.utils.optional_work import if_possible
    from robust_snn.utils.user_files import check_output_folder, output_folder
    from robust_snn.utils.values import number

    if out is not None:
        check_page("diagnosis.html")
        check_output_folder(out, "the diagnosis")
    options.set_threads(threads)
    start_logging(True)  # lines say what runs: there is no bar
    PGD().check_norm(norm)
    given = own_radius(None if eps is None else number(eps, "--eps"), norm, 8 / 255, "Linf")
    radius = checked_radius(given, norm, "--eps")
    if not radius:
        raise InputError(f"--eps must be positive, got {eps}")
    subject = load_subject(model, model_kwargs, checkpoint, data, data_root, n, adapting=adapting)
    images = subject.loaded
    where = options.chosen_device(device)
    victim = subject.victim(where, seed=seed)
    victim = victim if gradient is None else victim.replace(gradient=gradient)
    x, y = images.images.to(where), images.labels.to(where)
    refusal = tried_reach(victim, x).refusal
    if refusal is not None:
        raise InputError(refusal)
    if out is not None:
        output_folder(out, "the diagnosis")
    log = logging.getLogger("robust_snn.cli")
    diagnosis = found_by(victim, x, y, eps=radius, norm=norm, seed=seed, progress=log.info)
    say(rendered(diagnosis))
    if out is not None:
        about = {"model": subject.info["name"], "data": images.name, "command": command()}
        page = if_possible("page", lambda: write_diagnosis(diagnosis, about, out))
        if page is not None:
            say(f"page in {page}, numbers in {page.with_suffix('.json')}")
    if diagnosis.failed and not no_fail:
        raise typer.Exit(FAILED)


def rendered(diagnosis: Diagnosis) -> Group:
    """The checks and the gradient modes as tables, and what they mean together."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from robust_snn.eval.reporting.diagnosis_page import conclusion
    from robust_snn.eval.reporting.terminal import COLOURS
    from robust_snn.gradients import parse_mode
    from robust_snn.utils.share_texts import percent

    checks = Table("diagnostic", "value", "status", "why")
    checks.title = f"gradient mode {parse_mode(diagnosis.gradient).brief}"
    checks.columns[1].justify = "right"
    checks.columns[3].overflow = "fold"
    for note in diagnosis.notes:
        status = Text(note.status, COLOURS[note.status])
        checks.add_row(note.name, f"{note.value:.3g}", status, note.why)
    modes = Table("gradient mode", "robust accuracy", "its gradient")
    modes.title = "short attacks with every gradient mode"
    modes.columns[1].justify = "right"
    for result in diagnosis.results:
        mode = parse_mode(result.gradient).brief
        modes.add_row(mode, percent(result.accuracy), result.flaw)
    return Group(checks, modes, Text(conclusion(diagnosis)))
