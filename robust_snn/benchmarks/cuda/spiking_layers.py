"""One spiking layer on a GPU: forward, backward and both, as times and as shares of a copy's speed.

The GPU finds its queue full, so what counts is the work of the kernels and not who launches them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from robust_snn.benchmarks.cuda.device_events import copy_speed, in_a_line, interleave_on
from robust_snn.benchmarks.layer_speed import (
    LAYER_SHAPES,
    Layer,
    candidate_layers,
    layer_refusal,
    plain_loop,
)
from robust_snn.benchmarks.timing import Record, records

FORMATS = {"float32": (torch.float32, False), "bf16, channels-last": (torch.bfloat16, True)}
PASSES = {"forward": 2, "backward": 3, "both": 5}  # values of a layer that BPTT reads and writes
BATCHES = (8, 128)


def layer_stack(
    device: torch.device, steps: int, batch: int, sizes: tuple[int, ...], form: str, seed: int = 0
) -> Tensor:
    """Random currents or gradients `[T, B, C, H, W]` of a row of `FORMATS`."""
    dtype, last = FORMATS[form]
    torch.manual_seed(seed)
    layout = torch.channels_last if last else torch.contiguous_format
    stack = torch.randn(steps * batch, *sizes, device=device).to(dtype, memory_format=layout)
    return stack.unflatten(0, (steps, batch))


def measure_layers_on(
    device: torch.device, rounds: int, steps: int = 8, batches: tuple[int, ...] = BATCHES
) -> Iterator[list[Record]]:
    """Rows of one shape, batch and format at a time, with ratios to the plain loop.

    `of_copy` is the traffic that BPTT needs, by the time and by the speed of a copy.
    """
    speed = copy_speed(device)
    for shape, sizes in LAYER_SHAPES.items():
        for batch in batches:
            for form in FORMATS:
                layers = candidate_layers()
                found = _rows(device, rounds, speed, layers, steps, batch, sizes, form)
                yield [{"shape": shape, **row} for row in found]


def measure_compiled_layer(
    device: torch.device, rounds: int, steps: int = 8, batch: int = 128
) -> list[Record]:
    """The same for one shape against what `torch.compile` makes of the other loops."""
    ours = candidate_layers()
    layers = {name: ours[name] for name in ("plain loop", "ours bptt")}
    layers["plain loop, compiled"] = torch.compile(plain_loop)
    if "spikingjelly" in ours:
        layers["spikingjelly"] = ours["spikingjelly"]
        layers["spikingjelly, compiled"] = torch.compile(ours["spikingjelly"])
    shape = "64x32x32"
    sizes = LAYER_SHAPES[shape]
    rows = _rows(device, rounds, copy_speed(device), layers, steps, batch, sizes, "float32")
    return [{"shape": shape, **row} for row in rows]


def _rows(
    device: torch.device,
    rounds: int,
    speed: float,
    layers: dict[str, Layer],
    steps: int,
    batch: int,
    sizes: tuple[int, ...],
    form: str,
) -> list[Record]:
    current = layer_stack(device, steps, batch, sizes, form).requires_grad_()
    upstream = layer_stack(device, steps, batch, sizes, form, seed=1)
    candidates: dict[str, Callable[[], object]] = {}
    refused: dict[str, str] = {}
    for name, layer in layers.items():
        try:
            why = layer_refusal(name, layer, current, upstream)
            if not why:
                candidates |= _passes(name, layer, current, upstream)
        except Exception as error:  # a library that cannot run here
            why = in_a_line(error)
        if why:
            refused[name] = why
    times, failed = interleave_on(device, candidates, rounds, queued=candidates)
    found = []
    for kind, values in PASSES.items():
        mine = {name: times[f"{kind} {name}"] for name in layers if f"{kind} {name}" in times}
        wrong = refused | {n: failed[f"{kind} {n}"] for n in layers if f"{kind} {n}" in failed}
        floor = values * current.nbytes / speed
        head = {"T": steps, "B": batch, "format": form, "pass": kind}
        for row in records(head, mine, "plain loop", wrong):
            found.append({**row, "of_copy": row["ms"] and round(floor / row["ms"], 3)})
    return found


def _passes(
    name: str, layer: Layer, current: Tensor, upstream: Tensor
) -> dict[str, Callable[[], object]]:
    spikes = layer(current)

    def both() -> None:
        torch.autograd.grad(layer(current), current, upstream)

    passes: dict[str, Callable[[], object]] = {
        f"forward {name}": torch.no_grad()(partial(layer, current)),
        f"both {name}": both,
    }
    if "compiled" not in name:  # what PyTorch compiles frees its memory in its one backward pass
        again = partial(torch.autograd.grad, spikes, current, upstream, retain_graph=True)
        passes[f"backward {name}"] = again
    return passes
