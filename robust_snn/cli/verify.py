"""`robust-snn verify`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from rich.console import Group

    from robust_snn.eval.submission import Submission, Verification

REFUSED = 3  # the exit code after a submission that is refused
SHOWN = 20  # images that a line names


@app.command(epilog="Example: robust-snn verify runs/submission --checkpoint model.safetensors")
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a submission.")],
    checkpoint: options.Checkpoint = None,
    model: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    adapting: options.Adapt = None,
    data: Annotated[
        str | None, typer.Option(help=f"The evaluated data, if not known by name: {options.DATA}.")
    ] = None,
    data_root: options.DataRoot = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
) -> None:
    """Score a submission again on fresh noise. The exit code is 3 if it is refused."""
    from robust_snn.cli.inputs import load_subject, split_calibration
    from robust_snn.eval.submission import RefusedSubmission, load_submission
    from robust_snn.eval.submission import verify as found_by

    options.set_threads(threads)
    start_logging(True)  # lines say what runs: there is no bar
    try:
        submission = load_submission(folder)
    except RefusedSubmission as error:
        say(f"refused: {error}")
        raise typer.Exit(REFUSED) from None
    about = submission.verdict.data
    if data is None and about["name"] not in options.NAMED_SETS:
        raise InputError(f"name the data that it was evaluated on: --data, for '{about['name']}'")
    subject = load_subject(
        *_network(submission, checkpoint, model, model_kwargs),
        data or about["name"],
        data_root,
        None,
        adapting,
    )
    count, apart = int(about["n"]), int(submission.network["data"].get("calibration", 0))
    images = (
        split_calibration(subject.images, count, apart)[0] if apart else subject.images.take(count)
    )
    victim = subject.victim(options.chosen_device(device), seed=seed)
    log = logging.getLogger("robust_snn.cli")
    found = found_by(folder, victim, images.images, images.labels, seed=seed, progress=log.info)
    say(rendered(submission, found))
    if not found.accepted:
        raise typer.Exit(REFUSED)


def _network(
    submission: Submission,
    checkpoint: Path | None,
    model: str | None,
    model_kwargs: list[str] | None,
) -> tuple[str | None, list[str] | None, Path | None]:
    """Model, its arguments and weights: the submission knows a packaged or registered model."""
    import timm

    from robust_snn.models import zoo
    from robust_snn.training.checkpoint import load_card

    about: dict[str, Any] = submission.verdict.model
    name = str(about["name"])
    if model is not None or (checkpoint is not None and load_card(checkpoint) is not None):
        return model, model_kwargs, checkpoint
    if checkpoint is None and name not in zoo.trained():
        raise InputError(f"say which weights to verify '{name}' with: --checkpoint FILE or --model")
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"say how the network '{name}' is made: --model file.py:make_net")
    known = [f"{key}={value}" for key, value in about.get("kwargs", {}).items()]
    return name, model_kwargs if model_kwargs or checkpoint is None else known, checkpoint


def rendered(submission: Submission, found: Verification) -> Group:
    """What the submission says and what was measured, as a table, and what it comes to."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from robust_snn.utils.share_texts import percent, span

    verdict = submission.verdict
    table = Table("", "submission", "95%", "verified")
    table.title = f"{verdict.model['name']} on {verdict.data['n']} images of {verdict.data['name']}"
    clean, robust = ((percent(s.accuracy), span(s.ci)) for s in (verdict.clean, verdict.robust))
    rows = (
        ("clean", clean, found.clean),
        ("robust", robust, found.robust),
        ("after a short attack", ("", ""), found.attacked),
    )
    for name, told, measured in rows:
        if measured is not None:
            table.add_row(name, *told, percent(measured.value))
    lines = []
    if found.robust is not None:
        total = len(found.holds) + len(found.fell)
        lines.append(f"{len(found.holds)} of {total} adversarial images still hold: ")
        lines[-1] += _listed(found.holds)
    if found.fell:
        lines.append(f"no longer: {_listed(found.fell)}")
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"refused: {reason}" for reason in found.reasons] or ["accepted"]
    return Group(*([table] if table.rows else []), *map(Text, lines))


def _listed(images: tuple[int, ...]) -> str:
    more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
    return ", ".join(map(str, images[:SHOWN])) + more or "none"
