"""`robust-snn models`."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.utils.errors import unknown

CAPTION = (
    "of one random image under initial weights; SOPs: additions that spikes cause; trained: sets "
    "of data whose weights are packaged, as in snn_vgg5.digits"
)


@dataclass(frozen=True)
class _Progress:
    """How far the list is."""

    doing: str
    done: float
    remaining: float | None
    known: str = ""


@app.command(epilog="Example: robust-snn models 'snn_vgg*'")
def models(
    pattern: Annotated[
        str | None,
        typer.Argument(help="Which models, such as '*_stog' or '*.digits'; backbones if left out."),
    ] = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """List the spiking models. Parameters, spikes per image and operations stand beside them."""
    import timm
    import torch
    from rich.table import Table

    from robust_snn.metrics import profile
    from robust_snn.models import MECHANISMS
    from robust_snn.utils.progress_bar import progress_listener

    options.set_threads(threads)
    bar: bool | Callable[[_Progress], None] = start_logging(quiet)
    known, trained = timm.list_models("snn_*"), timm.list_models("snn_*", pretrained=True)
    names = _chosen(pattern, known, trained)
    caption = CAPTION
    if pattern is None:
        others = ", ".join(f"_{name}" for name in MECHANISMS if name != "none")
        caption += f". Each has variants: {others}; robust-snn models '*' lists them all"
    table = Table("model", "parameters", "spikes", "SOPs", "MACs", "trained", caption=caption)
    for column in table.columns[1:5]:
        column.justify = "right"
    began = time.perf_counter()
    with progress_listener(bar) as show:
        for index, name in enumerate(names):
            left = (time.perf_counter() - began) / index * (len(names) - index) if index else None
            show(_Progress(name, index / len(names), left))
            torch.manual_seed(0)  # of initial weights and noise: the same numbers at every call
            net = timm.create_model(name).eval()
            size = timm.get_pretrained_cfg_value(name, "input_size") or (3, 32, 32)
            image = torch.rand((1, *size), generator=torch.Generator().manual_seed(0))
            counts = profile(net, image)
            parameters = sum(p.numel() for p in net.parameters())
            row = (parameters, counts.spikes, counts.sops, counts.macs)
            tags = (each.partition(".")[2] for each in trained if each.startswith(f"{name}."))
            table.add_row(name, *(_short(value) for value in row), ", ".join(tags))
    say(table)


def _chosen(pattern: str | None, known: list[str], trained: list[str]) -> list[str]:
    """Names of models that match, themselves or with the tag of packaged weights."""
    if pattern is None:
        return [name for name in known if name.count("_") == 1]
    matching = fnmatch.filter([*known, *trained], pattern)
    if not matching:
        raise unknown("model", pattern, known)
    return sorted({name.partition(".")[0] for name in matching})


def _short(value: float) -> str:
    """A count with three digits and a unit."""
    for unit in ("", " k", " M"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} G"
