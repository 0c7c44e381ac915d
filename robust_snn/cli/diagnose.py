"""`robust-snn diagnose`."""

from __future__ import annotations

from typing import Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.cli.options import (
    DATA,
    Adapt,
    Checkpoint,
    DataRoot,
    Device,
    Model,
    ModelKwargs,
    Quiet,
    Seed,
    Threads,
    chosen_device,
    set_threads,
)
from robust_snn.utils.errors import InputError


@app.command(
    epilog="Example: robust-snn diagnose --checkpoint runs/digits/model.safetensors "
    "--data digits --eps 8/255 --gradient bptt"
)
def diagnose(
    data: Annotated[str, typer.Option(help=f"Images to look at: {DATA}.")],
    model: Model = None,
    model_kwargs: ModelKwargs = None,
    checkpoint: Checkpoint = None,
    adapting: Adapt = None,
    data_root: DataRoot = None,
    n: Annotated[int, typer.Option("-n", help="Number of images.")] = 32,
    gradient: Annotated[
        str | None, typer.Option(help="Gradient mode to judge; the network's own.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Radius; 8/255 in Linf if left out, none in L2.")
    ] = None,
    norm: Annotated[str, typer.Option(help="Linf or L2.")] = "Linf",
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Look for signs that a network hides its gradient; exits with 0 whatever it finds."""
    from rich.table import Table
    from rich.text import Text

    from robust_snn.attacks import PGD
    from robust_snn.attacks.mode_reach import tried_reach
    from robust_snn.attacks.threat_radius import checked_radius, own_radius
    from robust_snn.cli.inputs import load_subject
    from robust_snn.diagnostics import full
    from robust_snn.eval.reporting.terminal import COLOURS
    from robust_snn.utils.values import number
    from robust_snn.victim_scoring import correct

    set_threads(threads)
    start_logging(quiet)
    PGD().check_norm(norm)
    given = own_radius(None if eps is None else number(eps, "--eps"), norm, 8 / 255, "Linf")
    radius = checked_radius(given, norm, "--eps")
    if not radius:
        raise InputError(f"--eps must be positive, got {eps}")
    subject = load_subject(model, model_kwargs, checkpoint, data, data_root, n, adapting=adapting)
    images = subject.images
    where = chosen_device(device)
    victim = subject.victim(where, seed=seed)
    victim = victim if gradient is None else victim.replace(gradient=gradient)
    x, y = images.images.to(where), images.labels.to(where)
    right = correct(victim, x, y, draws=1, batch_size=len(x))[:, 0]
    if not right.any():
        raise InputError(f"the network reads none of {len(images)} images right: nothing to attack")
    refusal = tried_reach(victim, x).refusal
    if refusal is not None:
        raise InputError(refusal)
    table = Table("diagnostic", "value", "status", "why")
    table.title = f"gradient mode {victim.gradient_in_force.brief}"
    table.columns[1].justify = "right"
    table.columns[3].overflow = "fold"
    for note in full(victim, x[right], y[right], eps=radius, norm=norm, seed=seed):
        status = Text(note.status, COLOURS[note.status])
        table.add_row(note.name, f"{note.value:.3g}", status, note.why)
    say(table)
