"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from robust_snn.utils.errors import InputError

MOST_THREADS = 1024
NAMED_SETS = (  # of the room of data, which loads PyTorch
    *("digits", "cifar10", "cifar100", "tinyimagenet"),
    *("digits-events", "dvs128-gesture", "cifar10-dvs", "n-caltech101", "n-mnist", "shd"),
)
DATA = (
    f"{', '.join(NAMED_SETS)}, a set of torchvision such as SVHN, a folder or a .tar of class "
    "folders, arrays.npz, a folder of Hugging Face's datasets, or a function of yours, "
    "file.py:make_data, whose code runs"
)
Model = Annotated[
    str | None,
    typer.Option(
        help="Name of the model, see `robust-snn models`; a NIR file, net.nir; or a function of "
        "yours that returns the network, file.py:make_net or package.module:make_net, whose code "
        "runs."
    ),
]
ModelKwargs = Annotated[
    list[str] | None,
    typer.Option("--model-kwargs", metavar="NAME=VALUE", help="Arguments of the model."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        "--weights",
        help="Weights: .safetensors with a card, .pth or .ckpt; FILE:PLACE where it holds several.",
    ),
]
Adapt = Annotated[
    str | None,
    typer.Option(
        "--adapt",
        metavar="NAME=VALUE,...",
        help="How a network of yours is adapted: T, encoder, readout, output, random, mean, std, "
        "resize, channels; as in T=8,mean=0.5/0.5/0.5,std=0.2/0.2/0.2.",
    ),
]
DataRoot = Annotated[Path | None, typer.Option(help="Where a named data set lies on disk.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Plain log lines, no progress bar.")]


def chosen_device(name: str) -> str:
    """The device that `--device` names; `auto` is a GPU of this machine where there is one."""
    import torch

    from robust_snn.utils.known_device import known_device

    if name == "auto" and torch.cuda.is_available():
        # torchrun and SLURM start one process per GPU and number them on each machine
        rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
        return f"cuda:{int(rank) % torch.cuda.device_count()}"
    if name == "auto":
        return "cpu"
    return str(known_device(name, "--device"))


def set_threads(threads: int | None) -> None:
    """Sets the CPU threads that `--threads` asks for."""
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads must be at least 1, got {threads}")
        if threads > MOST_THREADS:
            raise InputError(f"--threads must be at most {MOST_THREADS}, got {threads}")
        torch.set_num_threads(threads)
