"""One attack step of WRN-16-4 on a GPU, as a caller waits for it: launches included.

Each precision is compared with itself: the published network, its convolutions and ours all round
alike. `of_convolutions` is how many times as long as the kernels of the convolutions a step takes.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.benchmarks.attack_step_speed import (
    SCALES,
    input_gradient,
    mean_gradient,
    step_refusal,
)
from robust_snn.benchmarks.cuda.device_events import (
    PRECISIONS,
    Precision,
    added_device_memory,
    copy_speed,
    in_a_line,
    interleave_on,
)
from robust_snn.benchmarks.published_network import (
    as_published,
    convolutions_alone,
    layer_inputs,
    network_with_rates,
)
from robust_snn.benchmarks.timing import Record, records
from robust_snn.benchmarks.training_step_speed import SpikingJellyNeurons
from robust_snn.neurons import NormSpike
from robust_snn.utils.plain_context import plain_context
from robust_snn.victim import SETTINGS, Victim

BASE, CONVOLUTIONS = "published, autograd.grad", "convolutions"
COPIES = "spiking layers, at a copy's speed"
FLOORS = ("convolutions, forward", CONVOLUTIONS)  # timed without their launches
BATCHES = (8, 64, 256)
Work = dict[str, Callable[[], object]]


class Rounded(nn.Module):
    """A network in a precision, as its authors would run it: weights laid out, autocast."""

    def __init__(self, net: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.bf16 = precision.half
        self.layout = torch.channels_last if self.bf16 else torch.contiguous_format
        self.net: nn.Module = copy.deepcopy(net).to(memory_format=self.layout)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.net(x.contiguous(memory_format=self.layout))
        return logits.float()


def our_victim(net: nn.Module, precision: Precision, **settings: Any) -> Victim:
    """A victim in a precision."""
    half = precision.half
    return Victim(net, bf16=half, channels_last=half, tf32=precision.tf32, **settings)


def published_twin(net: nn.Module, steps: int, precision: Precision, **kinds: Any) -> Rounded:
    """The network as papers write it, in a precision."""
    return Rounded(as_published(net, steps, **kinds), precision)


def measure_steps_on(
    device: torch.device,
    rounds: int,
    steps: int = 8,
    batches: tuple[int, ...] = BATCHES,
    width: float = 1.0,
) -> Iterator[list[Record]]:
    """Rows of one batch and precision at a time."""
    net, gated = (network_with_rates(steps, g, width, device=device) for g in (False, True))
    speed = copy_speed(device)
    for batch in batches:
        x = torch.rand(batch, 3, 32, 32, device=device)
        for name, precision in PRECISIONS.items():
            with plain_context(precision.tf32):
                published = published_twin(net, steps, precision)
                work, refused = _others(net, published, steps, precision, x)
                why = step_refusal(net, published, x[:8]) if name == "float32" else ""
                if why:
                    refused["ours"] = why
                else:
                    work |= _ours(net, gated, precision, x)
                times, failed = interleave_on(device, work, rounds, queued=FLOORS)
            taken = len(next(iter(times.values()), []))
            times[COPIES] = [_layer_bytes(net, x, precision) / speed] * taken
            head = {"T": steps, "B": batch, "precision": name}
            yield compared(records(head, times, BASE, refused | failed), times)


def compared(rows: list[Record], times: dict[str, list[float]]) -> list[Record]:
    """The rows, each with its time as a multiple of that of the convolutions alone."""
    floor = times.get(CONVOLUTIONS)
    for row in rows:
        mine = times.get(row["candidate"])
        row["of_convolutions"] = ""
        if floor and mine:
            shares = [t / f for t, f in zip(mine, floor, strict=True)]
            row["of_convolutions"] = round(statistics.median(shares), 3)
    return rows


def _others(
    net: nn.Module, published: Rounded, steps: int, precision: Precision, x: Tensor
) -> tuple[Work, dict[str, str]]:
    work: Work = {BASE: partial(input_gradient, published, x)}
    refused = {}
    try:
        theirs = published_twin(net, steps, precision, neurons=SpikingJellyNeurons)
        work["published, spikingjelly"] = partial(input_gradient, theirs, x)
    except ImportError:
        pass  # not installed
    try:
        alone = convolutions_alone(published.net, x, precision.dtype, precision.half)
        work |= alone
    except torch.OutOfMemoryError as error:
        refused[CONVOLUTIONS] = in_a_line(error)
    return work, refused


def _ours(net: nn.Module, gated: nn.Module, precision: Precision, x: Tensor) -> Work:
    graph = {"graph": True}
    cases: dict[str, tuple[nn.Module, dict[str, Any]]] = {
        "bptt": (net, {}),
        "bptt, graph": (net, graph),
        "bptr": (net, {"gradient": "bptr"}),
        "bptr, graph": (net, {"gradient": "bptr", **graph}),
        "bptt, compact": (net, {"gradient": "bptt(save=compact)"}),
        "bptt, gated network": (gated, {}),
        "bptt, gated network, graph": (gated, graph),
    }
    return {
        name: partial(input_gradient, our_victim(network, precision, **settings), x)
        for name, (network, settings) in cases.items()
        if can_be_set(settings)
    }


def can_be_set(settings: dict[str, Any]) -> bool:
    """Whether victims have these settings."""
    return set(settings) <= set(SETTINGS)


@torch.no_grad()
def _layer_bytes(net: nn.Module, x: Tensor, precision: Precision) -> float:
    """What the spiking layers of a step read and write: current, spikes; current, two gradients."""
    calls = layer_inputs(net, x[:1], NormSpike)
    values = sum(inputs.numel() * (5 if len(inputs) > 1 else 3) for _, inputs in calls)
    return float(values * len(x) * precision.dtype.itemsize)


def measure_compiled_step(
    device: torch.device, rounds: int, steps: int = 8, batch: int = 64, width: float = 1.0
) -> list[Record]:
    """The published network under `torch.compile`, against itself and ours; bf16, channels-last."""
    precision = Precision(half=True)
    net = network_with_rates(steps, width=width, device=device)
    x = torch.rand(batch, 3, 32, 32, device=device)
    published = published_twin(net, steps, precision)
    work: Work = {
        BASE: partial(input_gradient, published, x),
        "published, compiled": partial(input_gradient, torch.compile(published), x),
        "bptt": partial(input_gradient, our_victim(net, precision), x),
    }
    if can_be_set({"graph": True}):
        work["bptt, graph"] = partial(input_gradient, our_victim(net, precision, graph=True), x)
    times, failed = interleave_on(device, work, rounds)
    head = {"T": steps, "B": batch, "precision": "bf16, channels-last"}
    return records(head, times, BASE, failed)


def measure_eot_on(
    device: torch.device,
    rounds: int,
    steps: int = 8,
    batches: tuple[int, ...] = (2, 32),
    width: float = 1.0,
) -> Iterator[list[Record]]:
    """Ten draws of the gated network: the plain loop, and ours, one by one and folded."""
    net = network_with_rates(steps, gated=True, width=width, device=device)
    cases: dict[str, dict[str, Any]] = {
        "ours, eot=10": {},
        "ours, eot=10, one draw at a time": {"eot_batch": 1},
        "ours, eot=10, graph": {"graph": True},
    }
    for batch in batches:
        x = torch.rand(batch, 3, 32, 32, device=device)
        for name, precision in PRECISIONS.items():
            if precision.tf32:
                continue
            published = published_twin(net, steps, precision)
            work: Work = {"plain loop of ten": partial(mean_gradient, published, x)}
            for case, settings in cases.items():
                if can_be_set(settings):
                    victim = our_victim(net, precision, eot=10, **settings)
                    work[case] = partial(input_gradient, victim, x)
            with plain_context(tf32=False):
                times, failed = interleave_on(device, work, rounds)
            head = {"T": steps, "B": batch, "eot": 10, "precision": name}
            yield records(head, times, "plain loop of ten", failed)


def measure_scaling_on(
    device: torch.device, rounds: int, scales: dict[str, tuple[float, ...]] | None = None
) -> Iterator[list[Record]]:
    """How the cost of a step grows with one size, in float32; else T = 4, B = 32, half width."""
    for axis, values in (scales or {**SCALES, "B": (8, 32, 128)}).items():
        for value in values:
            size = {"T": 4, "B": 32, "eot": 1, "width": 0.5, axis: value}
            steps, draws = int(size["T"]), int(size["eot"])
            net = network_with_rates(steps, axis == "eot", size["width"], batch=2, device=device)
            x = torch.rand(int(size["B"]), 3, 32, 32, device=device)
            work: Work = {"published": partial(mean_gradient, as_published(net, steps), x, draws)}
            for mode in ("bptt", "bptr"):
                victim = Victim(net, gradient=mode, eot=draws)
                work[mode] = partial(input_gradient, victim, x)
            with plain_context(tf32=False):
                times, failed = interleave_on(device, work, rounds, seconds=1.0)
            yield records({"axis": axis, "value": value, **size}, times, "published", failed)


def measure_memory_on(
    device: torch.device, steps: int = 8, batch: int = 64, width: float = 1.0
) -> Iterator[list[Record]]:
    """Peak of the tensors that a step adds, as shares of the published step's."""
    plain, half = Precision(), Precision(half=True)
    net, gated = (network_with_rates(steps, g, width, device=device) for g in (False, True))
    x, few = (torch.rand(n, 3, 32, 32, device=device) for n in (batch, max(1, batch // 4)))
    groups: list[Work] = [
        {
            BASE: partial(input_gradient, published_twin(net, steps, plain), x),
            "bptt": partial(input_gradient, our_victim(net, plain), x),
            "bptr": partial(input_gradient, our_victim(net, plain, gradient="bptr"), x),
            "bptt, compact": partial(
                input_gradient, our_victim(net, plain, gradient="bptt(save=compact)"), x
            ),
            "bptt, bf16, channels-last": partial(input_gradient, our_victim(net, half), x),
        },
        {
            "plain loop of ten, eot": partial(
                mean_gradient, published_twin(gated, steps, plain), few
            ),
            "ours, eot=10": partial(input_gradient, our_victim(gated, plain, eot=10), few),
        },
    ]
    for group, images in zip(groups, (x, few), strict=True):
        peaks = {name: added_device_memory(device, run) for name, run in group.items()}
        first = next(iter(peaks.values()))
        yield [
            {"B": len(images), "candidate": name, "MiB": mib, "ratio": round(mib / first, 3)}
            for name, mib in peaks.items()
        ]
