"""Which block size and number of warps suits the Triton kernels, for the table that launches read.

Results do not depend on either. What is best depends on the steps, the neurons, the layout, the
type and the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from robust_snn.benchmarks.cuda.device_events import copy_speed, interleave_on
from robust_snn.benchmarks.cuda.spiking_layers import FORMATS, PASSES, layer_stack
from robust_snn.benchmarks.layer_speed import DYNAMICS
from robust_snn.benchmarks.timing import Record, median
from robust_snn.gradients import parse_mode
from robust_snn.kernels import spiking_loop

BLOCKS, WARPS = (256, 512, 1024), (2, 4, 8)
STEPS = (8, 4, 16)
SHAPES = ((64, 32, 32), (128, 16, 16), (256, 8, 8))
PER_THREAD = (2, 16)  # neurons of a thread, fewest and most
IN_REGISTERS = 128  # membranes of a thread at most; more of them spill


@contextmanager
def launched_with(block: int, warps: int) -> Iterator[None]:
    """Launches every kernel with this block and these warps."""
    from robust_snn.kernels.spiking.triton import launch

    chosen: dict[str, Any] = {
        "forward_block": lambda dtype: block,
        "backward_block": lambda steps: block,
        "options": lambda warp: {"num_warps": warps, "enable_fp_fusion": False},
    }
    before = {name: getattr(launch, name) for name in chosen}
    try:
        vars(launch).update(chosen)
        yield
    finally:
        vars(launch).update(before)


def measure_kernels_on(
    device: torch.device,
    rounds: int,
    batch: int = 128,
    shapes: tuple[tuple[int, int, int], ...] = SHAPES,
) -> Iterator[list[Record]]:
    """Rows of one number of steps, shape and format at a time; the `best` of each kernel is marked.

    `of_copy` is the traffic of the kernel, by its time and by the speed of a copy.
    """
    speed = copy_speed(device)
    for steps in STEPS:
        for sizes in shapes:
            for form in FORMATS:
                yield _rows(device, rounds, speed, steps, batch, sizes, form)


def _rows(
    device: torch.device,
    rounds: int,
    speed: float,
    steps: int,
    batch: int,
    sizes: tuple[int, int, int],
    form: str,
) -> list[Record]:
    current = layer_stack(device, steps, batch, sizes, form).requires_grad_()
    upstream = layer_stack(device, steps, batch, sizes, form, seed=1)
    rule = parse_mode("bptt").rule(DYNAMICS)
    layer = partial(spiking_loop, current, DYNAMICS, rule)
    spikes = layer()
    work: dict[str, Callable[[], object]] = {
        "forward": torch.no_grad()(layer),
        "backward": partial(torch.autograd.grad, spikes, current, upstream, retain_graph=True),
    }
    head = {"T": steps, "shape": "x".join(map(str, sizes)), "B": batch, "format": form}
    found = []
    for kernel, run in work.items():
        choices = {f"{b} {w}": (b, w) for b, w in launch_choices(kernel, steps)}
        timed = {name: partial(_run_with, *choice, run) for name, choice in choices.items()}
        times, failed = interleave_on(device, timed, rounds, seconds=0.3, queued=timed)
        floor = PASSES[kernel] * current.nbytes / speed
        ms = {name: median(t) for name, t in times.items()}
        for name, (block, warps) in choices.items():
            row: Record = {**head, "kernel": kernel, "block": block, "warps": warps}
            row["ms"] = ms.get(name, "")
            row["of_copy"] = round(floor / ms[name], 3) if name in ms else ""
            row["best"] = name in ms and ms[name] == min(ms.values())
            found.append({**row, "refused": failed.get(name, "")})
    return found


def launch_choices(kernel: str, steps: int) -> list[tuple[int, int]]:
    """Blocks and warps that are tried: the membranes of a thread fit its registers."""
    found = []
    for block in BLOCKS:
        for warps in WARPS:
            neurons = block // (32 * warps)  # of a thread
            kept = steps * neurons if kernel == "backward" else 0
            if PER_THREAD[0] <= neurons <= PER_THREAD[1] and kept <= IN_REGISTERS:
                found.append((block, warps))
    return found


def _run_with(block: int, warps: int, run: Callable[[], object]) -> None:
    with launched_with(block, warps):
        run()
