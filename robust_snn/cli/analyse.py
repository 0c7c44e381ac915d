"""`robust-snn analyse`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_files import check_output_folder, output_folder

if TYPE_CHECKING:
    from torch import Tensor

    from robust_snn.metrics import Trials
    from robust_snn.victim import Victim


@app.command(
    epilog="Example: robust-snn analyse --model snn_vgg5_nlif.digits --data digits -n 20 "
    "--out runs/code"
)
def analyse(
    data: Annotated[str, typer.Option(help=f"What to show: {options.DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder of code.png, samples.csv and neurons.csv.")],
    model: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    checkpoint: options.Checkpoint = None,
    adapting: options.Adapt = None,
    data_root: options.DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of samples.")] = 100,
    trials: Annotated[int, typer.Option(help="Trials of every sample.")] = 32,
    layer: Annotated[str | None, typer.Option(help="Spiking layer; the last one.")] = None,
    sample: Annotated[int, typer.Option(help="Sample whose spikes the page shows.")] = 0,
    neurons: Annotated[int, typer.Option(help="Neurons in its histograms.")] = 16,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Show the neural code of a noisy network. It follows from how spikes vary over trials.

    Of a network without noise, or without neurons of ours, the accuracy of every sample is written.
    """
    from robust_snn.cli.inputs import load_subject
    from robust_snn.metrics import repeat
    from robust_snn.metrics.neural_code_page import draw_page
    from robust_snn.utils.figures import new_figure
    from robust_snn.utils.share_texts import percent
    from robust_snn.victim.scoring import correct

    options.set_threads(threads)
    start_logging(quiet)
    check_output_folder(out, "the analysis")
    subject = load_subject(model, model_kwargs, checkpoint, data, data_root, n, adapting=adapting)
    info, images = subject.info, subject.loaded
    if not 0 <= sample < len(images):
        raise InputError(f"--sample must be between 0 and {len(images) - 1}, got {sample}")
    if neurons < 1:
        raise InputError(f"--neurons must be at least 1, got {neurons}")
    victim = subject.victim(options.chosen_device(device), seed=seed)
    x = images.images.to(options.chosen_device(device))
    output_folder(out, "the analysis")
    if layer is None and (missing := _unrecorded(victim)) is not None:
        right = correct(victim, x, images.labels, draws=trials).float().mean(1)
        write_accuracies(right, images.labels, out)
        say(f"{info['name']}: accuracy {percent(float(right.mean()))} over {len(images)} samples")
        say(f"warning: no spikes are analysed: {missing}")
        return
    new_figure(1, 1)  # says now, not after the work, that a library is missing
    repeated = repeat(victim, x, trials, layer)
    write_tables(repeated, images.labels, out)
    what = (
        f"{info['name']} on {images.name}, layer {repeated.layer}, {trials} trials, sample {sample}"
    )
    shown = images.images[sample]
    page = out / "code.png"
    draw_page(repeated, page, sample=sample, neurons=neurons, stimulus=shown, title=what)
    r, p = repeated.correlation()
    accuracy = (repeated.predictions.argmax(-1) == images.labels).float().mean()
    say(
        f"{info['name']}: accuracy {percent(float(accuracy))}, mean Fano factor "
        f"{repeated.fano.nanmean():.3f}, mean similarity {repeated.similarity.mean():.3f}, "
        f"correlation {r:.2f} (p = {p:.2g}) over {len(images)} samples; pictures in "
        f"{page}"
    )


def _unrecorded(victim: Victim) -> str | None:
    """Why the spikes of a network show no code over trials; None if they do."""
    from robust_snn.neurons import LIF

    if not victim.stochastic:
        return "the network draws no noise, so all trials are alike"
    if not any(isinstance(module, LIF) for module in victim.net.modules()):
        return "the network has no neurons of ours, whose spikes can be recorded"
    return None


def write_tables(trials: Trials, labels: Tensor, out: Path) -> None:
    """One row per sample, and one per sample and neuron that fires."""
    right = (trials.predictions.argmax(-1) == labels).float().mean(0)
    columns = (labels, right, trials.mean_fano, trials.similarity)
    rows = [(i, *row) for i, row in enumerate(zip(*(c.tolist() for c in columns), strict=True))]
    header = ("sample", "label", "accuracy", "mean_fano_factor", "prediction_similarity")
    _write(out / "samples.csv", header, rows)
    counts = trials.spikes.sum(1).double()
    mean, variance = counts.mean(0), counts.var(0)
    fired = [
        (b, i, float(mean[b, i]), float(variance[b, i]), float(trials.fano[b, i]))
        for b, i in (mean > 0).nonzero().tolist()
    ]
    header = ("sample", "neuron", "mean_count", "variance", "fano_factor")
    _write(out / "neurons.csv", header, fired)


def write_accuracies(right: Tensor, labels: Tensor, out: Path) -> None:
    """One row per sample, with the share of its trials that are right, `[N]`."""
    rows = [(i, *row) for i, row in enumerate(zip(labels.tolist(), right.tolist(), strict=True))]
    _write(out / "samples.csv", ("sample", "label", "accuracy"), rows)


def _write(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    import csv
    import io

    from robust_snn.utils.atomic_files import write_text

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())
