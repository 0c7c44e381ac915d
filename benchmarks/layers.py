"""Times one spiking layer against the loops that people write and the libraries they use.

python benchmarks/layers.py --threads 2 --out benchmarks/layers.csv
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from provenance import write_rows
from torch import Tensor

from robust_snn.kernels import Bptr, Bptt, Dynamics, Gate, Hart, Rga, Surrogate, spiking_loop

SHAPES = {"64x32x32": (64, 32, 32), "128x16x16": (128, 16, 16), "256x8x8": (256, 8, 8)}
TRIANGLE = Bptt(Surrogate("triangle", 1.0))
Layer = Callable[[Tensor], Tensor]


class _Triangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z >= 0).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


def plain(current: Tensor) -> Tensor:
    """The loop as published code writes it, with `x[t]` indexing."""
    u, spikes = 0, []
    for t in range(len(current)):
        v = 0.5 * u + current[t]
        s = _Triangle.apply(v - 1.0)
        u = (1 - s) * v
        spikes.append(s)
    return torch.stack(spikes)


def ours(rule: Any = TRIANGLE, gated: bool = False) -> Layer:
    def layer(current: Tensor) -> Tensor:
        gate = None
        if gated:
            probability = torch.full(current.shape[2:], 0.5)
            gate = Gate(probability, torch.arange(current.shape[1]))
        return spiking_loop(current, Dynamics(0.5), rule, gate=gate)

    return layer


def spikingjelly() -> Layer | None:
    try:
        from spikingjelly.activation_based import functional, neuron, surrogate
    except ImportError:
        return None
    node = neuron.LIFNode(
        tau=2.0, decay_input=False, surrogate_function=surrogate.PiecewiseQuadratic(1.0),
        step_mode="m",
    )  # fmt: skip

    def layer(current: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(current)

    return layer


def snntorch() -> Layer | None:
    try:
        import snntorch
    except ImportError:
        return None
    node = snntorch.Leaky(
        beta=0.5, threshold=1.0, spike_grad=_Triangle.apply, reset_mechanism="zero",
        reset_delay=False,
    )  # fmt: skip

    def layer(current: Tensor) -> Tensor:
        u, spikes = node.reset_mem(), []
        for x in current.unbind(0):
            s, u = node(x, u)
            spikes.append(s)
        return torch.stack(spikes)

    return layer


def candidates() -> dict[str, Layer]:
    rows = {
        "plain loop": plain,
        "ours bptt": ours(),
        "ours bptt, gate": ours(gated=True),
        "ours bptr": ours(Bptr()),
        "ours rga": ours(Rga()),
        "ours hart": ours(Hart(Surrogate("triangle", 1.0))),
        "spikingjelly": spikingjelly(),
        "snntorch": snntorch(),
    }
    return {name: layer for name, layer in rows.items() if layer is not None}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def time_once(
    layer: Layer, current: Tensor, upstream: Tensor, clock: Callable[[], float]
) -> tuple[float, float]:
    """Milliseconds of the forward and of the backward pass."""
    start = clock()
    spikes = layer(current)
    middle = clock()
    torch.autograd.grad(spikes, current, upstream)
    return (middle - start) * 1e3, (clock() - middle) * 1e3


def check(name: str, layer: Layer, current: Tensor, upstream: Tensor) -> str:
    """Why a candidate that claims the plain loop's function does not compute it, or nothing."""
    spikes, expected = layer(current), plain(current)
    if "gate" not in name and not torch.equal(spikes, expected):
        return f"{int((spikes != expected).sum())} spikes differ"
    if name in ("ours bptt", "spikingjelly", "snntorch"):
        got, wanted = (torch.autograd.grad(s, current, upstream)[0] for s in (spikes, expected))
        ratio = (got - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
        if ratio > 1e-5:
            return f"gradients differ by {ratio:.1e}"
    return ""


def measure(
    shape: str, steps: int, batch: int, rounds: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    current = torch.randn(steps, batch, *SHAPES[shape], requires_grad=True)
    upstream, target = torch.randn(2, steps, batch, *SHAPES[shape])
    layers, refused = candidates(), {}
    for name, layer in layers.items():
        refused[name] = check(name, layer, current, upstream)  # also compiles and warms up
    copies: list[float] = []
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in layers}
    for _ in range(rounds):
        start = clock()
        target.copy_(upstream)
        copies.append((clock() - start) * 1e3)
        for name, layer in layers.items():
            if not refused[name]:
                times[name].append(time_once(layer, current, upstream, clock))
    floor = 20 / 8 * statistics.median(copies)  # a copy moves 8 bytes per neuron and step
    return [_row(shape, steps, batch, name, times, refused[name], floor) for name in layers]


def _row(
    shape: str,
    steps: int,
    batch: int,
    name: str,
    times: dict[str, list[tuple[float, float]]],
    refused: str,
    floor: float,
) -> dict[str, Any]:
    row: dict[str, Any] = {"shape": shape, "T": steps, "B": batch, "candidate": name}
    blank = dict.fromkeys(("forward_ms", "backward_ms", "plain_over_this", "low", "high"), "")
    row |= {**blank, "over_floor": "", "refused": refused}
    if refused:
        return row
    total = [sum(pair) for pair in times[name]]
    base = [sum(pair) for pair in times["plain loop"]]
    ratios = sorted(b / t for b, t in zip(base, total, strict=True))
    return row | {
        "forward_ms": round(statistics.median(f for f, _ in times[name]), 2),
        "backward_ms": round(statistics.median(b for _, b in times[name]), 2),
        "plain_over_this": round(statistics.median(ratios), 2),
        "low": round(ratios[len(ratios) // 10], 2),
        "high": round(ratios[-1 - len(ratios) // 10], 2),
        "over_floor": round(statistics.median(total) / floor, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu with one thread suits a busy machine"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--out", default="layers.csv")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for shape in options.shapes:
        clock = CLOCKS[options.clock]
        rows += measure(shape, options.steps, options.batch, options.rounds, clock)
    write_rows(options.out, [{**row, "clock": options.clock} for row in rows])


if __name__ == "__main__":
    main()
