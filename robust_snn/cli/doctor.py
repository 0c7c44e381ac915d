"""`robust-snn doctor`: versions, devices, and a self-test of every backend."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from robust_snn.cli.app import app
from robust_snn.cli.console import say
from robust_snn.cli.gpu_check import gpu_report

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

PACKAGES = ("torch", "torchvision", "timm", "numpy", "numba", "triton", "safetensors")
GRADIENT_TOLERANCE = 1e-5


@app.command(epilog="Example: robust-snn doctor")
def doctor() -> None:
    """Show versions and which backends work here."""
    say(installation())


def installation() -> Table:
    """Versions and self-tests as a table."""
    import torch
    from rich.table import Table

    from robust_snn.adapters import LIBRARIES
    from robust_snn.kernels.backend import BACKENDS, trouble
    from robust_snn.utils.version import __version__

    table = Table("what", "found")
    table.add_row("robust-snn", __version__)
    table.add_row("python", platform.python_version())
    for library in (*PACKAGES, *dict.fromkeys(LIBRARIES.values())):
        table.add_row(library, _version(library))
    table.add_row("cores, threads", f"{os.cpu_count()}, {torch.get_num_threads()}")
    for row in gpu_report():
        table.add_row(*row)
    for backend in BACKENDS:
        if backend != "auto":
            table.add_row(f"backend {backend}", check_backend(backend))
    if not trouble("numba"):
        table.add_row("event-driven convolution", measured_choices())
        table.add_row("layers on several threads", worthwhile_work())
        table.add_row("layers in blocks", measured_blocks())
    return table


def worthwhile_work() -> str:
    """How much work spiking layers and event-driven convolutions share out to threads here."""
    from robust_snn.kernels.numba_tools.threads import worth_of_a_thread

    return f"from {worth_of_a_thread():,} values for each, by what it costs to wake one"


def measured_blocks() -> str:
    """How many neurons at a time spiking layers took through their steps fastest here."""
    from robust_snn.kernels.measurements import cache_file
    from robust_snn.kernels.spiking.numba.block_choice import measured_here

    found = measured_here()
    if not found:
        return "not measured yet with this number of threads; large layers do when they first run"
    counts = ", ".join(f"{n:,} neurons for {found[n]}" for n in sorted(found))
    return f"{counts} of {sum(found.values())} kinds of layers ({cache_file()})"


def measured_choices() -> str:
    """On which layers `sparse="auto"` found the event-driven convolution faster on this machine."""
    from robust_snn.kernels.convolution.break_even import measured_here
    from robust_snn.kernels.measurements import cache_file

    shares = sorted(measured_here().values())
    faster = [share for share in shares if share > 0]
    if not shares:
        return "not measured yet with this number of threads; sparse=auto does when it runs"
    range_ = f", below {faster[0]:.0%} to {faster[-1]:.0%} spikes" if faster else ""
    return f"faster on {len(faster)} of {len(shares)} kinds of layers{range_} ({cache_file()})"


def check_backend(backend: str) -> str:
    """Runs a small spiking loop on a backend and compares it with the reference.

    Returns:
        `"works"`, or what is wrong.
    """
    import torch

    device = "cuda" if backend == "triton" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return "not here: needs a CUDA device"
    try:
        spikes, gradient = _small_layer(backend, device)
        expected, reference = _small_layer("torch", "cpu")
    except Exception as error:  # a broken compiler or driver raises anything
        return f"fails: {' '.join(str(error).split())[:100]}"
    if not torch.equal(spikes, expected):
        return "wrong: spikes differ from the reference"
    off = float((gradient - reference).norm() / reference.norm())
    return "works" if off <= GRADIENT_TOLERANCE else f"wrong: gradients are off by {off:.1e}"


def _small_layer(backend: str, device: str) -> tuple[Tensor, Tensor]:
    """Spikes and input gradient of a layer of 37 neurons, `[4, 3, 37]`, on the CPU."""
    import torch

    from robust_snn.neurons import LIF

    generator = torch.Generator().manual_seed(0)
    current = torch.randn(4, 3, 37, generator=generator).to(device).requires_grad_()
    weight = torch.randn(4, 3, 37, generator=generator).to(device)
    spikes = LIF(decay=0.9, backend=backend)(current)
    (gradient,) = torch.autograd.grad((spikes * weight).sum(), current)
    return spikes.detach().cpu(), gradient.cpu()


def _version(library: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
