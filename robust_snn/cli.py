"""The `robust-snn` command. Every command imports what it needs when it runs."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_snn.errors import InputError

if TYPE_CHECKING:
    from robust_snn.eval import Progress

app = typer.Typer(
    help="Find out whether a spiking neural network is really robust to adversarial examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130  # what typer makes of Ctrl-C
PAIRS = ("--model-kwargs", "--set")  # options that take any number of name=value pairs
DATA = "digits, cifar10, cifar100, a folder or a .tar of class folders"
Model = Annotated[str | None, typer.Option(help="Name of the model; see `robust-snn models`.")]
ModelKwargs = Annotated[
    list[str] | None,
    typer.Option("--model-kwargs", metavar="NAME=VALUE", help="Arguments of the model."),
]
DataRoot = Annotated[Path | None, typer.Option(help="Where a named data set lies on disk.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Plain log lines, no progress bar.")]


@app.command(
    epilog="Example: robust-snn train --model snn_vgg5_stog --data digits --recipe at "
    "--eps 8/255 --epochs 20 --model-kwargs T=4 width=.25 head_width=128 --out runs/digits"
)
def train(
    model: Annotated[str, typer.Option(help="Name of the model; see `robust-snn models`.")],
    data: Annotated[str, typer.Option(help=f"What to train on: {DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, card, history and state.")],
    recipe: Annotated[str, typer.Option(help="natural, at, or a .yaml file.")] = "natural",
    test_data: Annotated[
        str | None,
        typer.Option(help="What to test on; a held-out tenth if the data have no test split."),
    ] = None,
    data_root: DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of images to train on.")] = None,
    model_kwargs: ModelKwargs = None,
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
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a network; start the same command again to go on after a kill."""
    from robust_snn.inputs import check_model, training_data
    from robust_snn.training import load_recipe
    from robust_snn.training import train as run
    from robust_snn.values import assignments, number

    bar = _prepare(threads, quiet)
    kwargs = assignments(model_kwargs or (), "--model-kwargs")
    changes = assignments(set_ or (), "--set")
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "eps": None if eps is None else number(eps, "--eps"),
        "gradient": gradient,
    }
    for name in changes:
        if options.get(name) is not None:
            raise InputError(f"--set {name}: the option --{name.replace('_', '-')} is given too")
    chosen = load_recipe(recipe).with_(**{**options, **changes})
    check_model(model)
    images, test = training_data(data, test_data, data_root, kwargs.get("img_size"), n)
    done = run(
        model,
        images,
        test,
        chosen,
        out=out,
        model_kwargs=kwargs,
        seed=seed,
        device=_device(device),
        progress=bar,
    )
    _say(
        f"{model}: test accuracy {done.history[-1].test_accuracy:.1%} on {len(test)} images, "
        f"mean opening probability {done.history[-1].opening:.2f}; "
        f"weights in {out / 'model.safetensors'}"
    )


@app.command(
    epilog="Example: robust-snn evaluate --checkpoint runs/digits/model.safetensors "
    "--data digits --suite quick --eps 8/255 -n 100 --out runs/verdict"
)
def evaluate(
    data: Annotated[str, typer.Option(help=f"What to attack: {DATA}.")],
    out: Annotated[Path, typer.Option(help="Folder of the run and its verdict.json.")],
    model: Model = None,
    model_kwargs: ModelKwargs = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights: .safetensors with a card, or .pth.")
    ] = None,
    data_root: DataRoot = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of images.")] = None,
    suite: Annotated[str, typer.Option(help="Name of a suite, or a .yaml file.")] = "quick",
    eps: Annotated[str, typer.Option(help="Radius, such as 8/255.")] = "8/255",
    norm: Annotated[str | None, typer.Option(help="Linf or L2, instead of the suite's.")] = None,
    draws: Annotated[int | None, typer.Option(help="Noise draws that give the number.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every attack.")] = None,
    eot: Annotated[int | None, typer.Option(help="Draws that attacks average.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images attacked together.")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Measure robust accuracy; start the same command again to go on after a kill."""
    from robust_snn import evaluate as run
    from robust_snn.eval import load_suite
    from robust_snn.eval.report import render
    from robust_snn.inputs import subject
    from robust_snn.values import assignments, number
    from robust_snn.victim import Victim

    bar = _prepare(threads, quiet)
    load_suite(suite)
    radius = number(eps, "--eps")
    if radius < 0:
        raise InputError(f"--eps must not be negative, got {eps}")
    kwargs = assignments(model_kwargs or (), "--model-kwargs")
    net, info, images = subject(model, kwargs, checkpoint, data, data_root, n)
    optional = {} if batch_size is None else {"batch_size": batch_size}
    verdict = run(
        Victim(net.to(_device(device)).eval(), seed=seed),
        images.images,
        images.labels,
        suite=suite,
        out=out,
        eps=radius,
        norm=norm,
        draws=draws,
        steps=steps,
        eot=eot,
        seed=seed,
        model_info=info,
        data_info={"name": images.name, "split": images.split},
        progress=bar or _log_lines(),
        **optional,
    )
    _say(render(verdict))
    _say(f"verdict in {out / 'verdict.json'}")


@app.command(epilog="Example: robust-snn models")
def models() -> None:
    """List the spiking models with their number of parameters."""
    import timm
    import torch
    from rich.table import Table

    import robust_snn  # noqa: F401  registers the models

    table = Table("model", "parameters")
    table.columns[1].justify = "right"
    with torch.device("meta"):
        for name in timm.list_models("snn_*"):
            net = timm.create_model(name)
            table.add_row(name, f"{sum(p.numel() for p in net.parameters()):,}")
    _say(table)


@app.command(epilog="Example: robust-snn doctor")
def doctor() -> None:
    """Show versions, and whether each backend of the spiking loop works here."""
    from robust_snn.doctor import report

    _say(report())


@app.command(epilog="Example: robust-snn demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train and attack two small networks on digits: what attacks claim, and what holds."""
    from robust_snn.demo import render, run

    bar = _prepare(threads, quiet)
    _say(render(run(out, progress=bar)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and leaves with 0 if done, 2 after wrong input, 1 otherwise."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    words = joined(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=words, prog_name="robust-snn", standalone_mode=False)
    except (InputError, ImportError) as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors
            return _fail(f"{error.format_message().rstrip('.')}; see robust-snn --help", 2)
        if type(error).__module__.startswith("robust_snn."):
            return _fail(str(error), 1)
        traceback.print_exc()
        return 1
    if code == INTERRUPTED:
        return _fail("interrupted; start the same command again to go on", 1)
    return code if isinstance(code, int) else 0


def joined(words: Sequence[str]) -> list[str]:
    """Makes one word of the pairs that follow an option for pairs, as in `--set lr=0.1 eot=2`."""
    result: list[str] = []
    open_ended = False
    for word in words:
        if open_ended and "=" in word and not word.startswith("-"):
            result[-1] += f" {word}"
            continue
        open_ended = bool(result) and result[-1] in PAIRS
        result.append(word)
    return result


def _fail(message: str, code: int) -> int:
    print(" ".join(f"robust-snn: {message}".split()), file=sys.stderr)  # noqa: T201
    return code


def _say(what: Any) -> None:
    from rich.console import Console

    Console(markup=False, highlight=False, soft_wrap=isinstance(what, str)).print(what)


def _prepare(threads: int | None, quiet: bool) -> bool:
    """Sets threads and logging; returns whether a progress bar is to be shown."""
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)
    bar = sys.stderr.isatty() and not quiet
    # a bar shows what the log lines say, and they would tear it apart
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("robust_snn").setLevel(logging.WARNING if bar else logging.INFO)
    return bar


def _log_lines() -> Callable[[Progress], None]:
    """Shows an evaluation's progress as log lines."""
    log = logging.getLogger("robust_snn.cli")

    def show(now: Progress) -> None:
        left = "" if now.remaining is None else f", {now.remaining:.0f} s left"
        known = "" if now.robust is None else f", robust so far {now.robust:.1%}"
        log.info("%3.0f %%  %s%s%s", 100 * now.done, now.doing, left, known)

    return show


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise InputError(f"--device must be cpu, cuda or auto, got '{name}'") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: PyTorch sees no CUDA device here; use cpu")
    return name
