"""`robust-snn train`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.utils.errors import InputError


@app.command(
    epilog="Example: robust-snn train --model snn_vgg5_stog --data digits --recipe at "
    "--eps 8/255 --epochs 20 --model-kwargs T=4 width=.25 head_width=128 --out runs/digits"
)
def train(
    model: Annotated[str, typer.Option(help="Name of the model; see `robust-snn models`.")],
    data: Annotated[str, typer.Option(help=f"What to train on: {options.DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, card, history and state.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="natural, at, rat, stog-rat, stable-at, ... (docs/training.md), or a .yaml file."
        ),
    ] = "natural",
    test_data: Annotated[
        str | None,
        typer.Option(help="What to test on; a held-out tenth if the data have no test split."),
    ] = None,
    data_root: options.DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of images to train on.")] = None,
    model_kwargs: options.ModelKwargs = None,
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from, instead of random weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    eps: Annotated[str | None, typer.Option(help="Instead of the recipe's, such as 8/255.")] = None,
    gradient: Annotated[
        str | None, typer.Option(help="Gradient mode of the training attack, such as bptr.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other number of the recipe."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write the history for TensorBoard.")
    ] = False,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train a network. The same command resumes a killed training."""
    from robust_snn.cli.inputs import asked_steps
    from robust_snn.cli.training_inputs import fitting_width, training_data
    from robust_snn.models.create import check_model_name
    from robust_snn.training import load_recipe
    from robust_snn.training import train as run
    from robust_snn.utils.share_texts import percent
    from robust_snn.utils.user_files import check_output_folder
    from robust_snn.utils.values import assignments, number

    options.set_threads(threads)
    bar = start_logging(quiet)
    check_output_folder(out, "the training")
    kwargs = assignments(model_kwargs or (), "--model-kwargs")
    changes = assignments(set_ or (), "--set")
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "eps": None if eps is None else number(eps, "--eps"),
        "gradient": gradient,
    }
    for name in changes:
        if given.get(name) is not None:
            raise InputError(f"--set {name}: the option --{name.replace('_', '-')} is given too")
    chosen = load_recipe(recipe).replace(**{**given, **changes})
    check_model_name(model)
    images, test = training_data(
        data, test_data, data_root, kwargs.get("img_size"), n, steps=asked_steps(kwargs)
    )
    if narrow := fitting_width(model, kwargs, images):
        shown = " ".join(f"{key}={value}" for key, value in narrow.items())
        logging.getLogger("robust_snn").warning(
            "%s for %d images; --model-kwargs width=1 takes the published width", shown, len(images)
        )
        kwargs |= narrow
    done = run(
        model,
        images,
        test,
        chosen,
        out=out,
        model_kwargs=kwargs,
        start=start,
        seed=seed,
        device=options.chosen_device(device),
        progress=bar,
        tensorboard=tensorboard,
    )
    last = done.history[-1]
    gates = "" if last.opening == 1 else f", mean opening probability {last.opening:.2f}"
    say(
        f"{model}: test accuracy {percent(last.test_accuracy)} on {len(test)} images{gates}; "
        f"weights in {out / 'model.safetensors'}"
    )
