"""One spiking layer, forward and backward, against loops that people write and libraries they use.

A candidate whose spikes or gradients differ from the plain loop's is refused, not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from robust_snn.benchmarks.timing import CLOCKS, Record, interleave, records
from robust_snn.gradients import parse_mode
from robust_snn.kernels import Dynamics, Gate, spiking_loop

LAYER_SHAPES = {"64x32x32": (64, 32, 32), "128x16x16": (128, 16, 16), "256x8x8": (256, 8, 8)}
DYNAMICS = Dynamics(decay=0.5)
FLOOR = "bandwidth floor"
Layer: TypeAlias = Callable[[Tensor], Tensor]


class PublishedTriangle(torch.autograd.Function):
    """A step with the triangle surrogate, as published code writes it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z >= 0).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


def plain_loop(current: Tensor, decay: float = 0.5) -> Tensor:
    """The loop as published code writes it, with `x[t]` indexing."""
    u: Any = 0
    spikes = []
    for t in range(len(current)):
        v = decay * u + current[t]
        s = PublishedTriangle.apply(v - 1.0)
        u = (1 - s) * v
        spikes.append(s)
    return torch.stack(spikes)


def _ours(mode: str = "bptt", gated: bool = False) -> Layer:
    rule = parse_mode(mode).rule(DYNAMICS)

    def layer(current: Tensor) -> Tensor:
        gate = None
        if gated:
            device = current.device
            opening = torch.full(current.shape[2:], 0.5, device=device)
            gate = Gate(opening, torch.arange(current.shape[1], device=device))
        return spiking_loop(current, DYNAMICS, rule, gate=gate)

    return layer


def _spikingjelly() -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    shape = surrogate.PiecewiseQuadratic(1.0)
    node = neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=shape, step_mode="m")

    def layer(current: Tensor) -> Tensor:
        functional.reset_net(node)
        spikes: Tensor = node(current)
        return spikes

    return layer


def _snntorch() -> Layer:
    import snntorch

    options = {"reset_mechanism": "zero", "reset_delay": False}
    node = snntorch.Leaky(beta=0.5, threshold=1.0, spike_grad=PublishedTriangle.apply, **options)

    def layer(current: Tensor) -> Tensor:
        node.to(current.device)
        u, spikes = node.reset_mem(), []
        for x in current.unbind(0):
            s, u = node(x, u)
            spikes.append(s)
        return torch.stack(spikes)

    return layer


def candidate_layers() -> dict[str, Layer]:
    """The layers; a library that is not installed is left out."""
    found: dict[str, Layer] = {
        "plain loop": plain_loop,
        "ours bptt": _ours(),
        "ours bptt, gate": _ours(gated=True),
        "ours bptr": _ours("bptr"),
        "ours rga": _ours("rga"),
        "ours hart": _ours("hart"),
    }
    for name, build in (("spikingjelly", _spikingjelly), ("snntorch", _snntorch)):
        try:
            found[name] = build()
        except ImportError:
            continue
    return found


def layer_refusal(name: str, layer: Layer, current: Tensor, upstream: Tensor) -> str:
    """Why a candidate does not compute what it claims, or nothing.

    In half precision it may keep membranes in float32, or round them as the plain loop does; one
    spike in a thousand may then lie on the other side of the threshold.
    """
    exact = current.dtype == torch.float32
    references = [plain_loop] if exact else [plain_loop, _loop_in_float32]
    whys = [_difference(name, layer, current, upstream, loop) for loop in references]
    return "" if "" in whys else whys[-1]


def _loop_in_float32(current: Tensor) -> Tensor:
    return plain_loop(current.float()).to(current.dtype)


def _difference(
    name: str, layer: Layer, current: Tensor, upstream: Tensor, reference: Layer
) -> str:
    exact = current.dtype == torch.float32
    spikes, expected = layer(current), reference(current)
    if "gate" in name:
        return "" if bool((spikes <= expected).all()) else "a gate made a spike"
    different = int((spikes != expected).sum())
    if different > (0 if exact else 1e-3 * spikes.numel()):
        return f"{different} spikes differ"
    if name.split(",")[0] in ("ours bptt", "spikingjelly", "snntorch", "plain loop"):
        got, wanted = (torch.autograd.grad(s, current, upstream)[0] for s in (spikes, expected))
        off = float((got - wanted).norm() / wanted.norm())
        return f"gradients differ by {off:.1e}" if off > (1e-5 if exact else 0.1) else ""
    return ""


def _forward_and_backward(layer: Layer, current: Tensor, upstream: Tensor) -> None:
    torch.autograd.grad(layer(current), current, upstream)


def measure_layers(rounds: int, clock: str, steps: int = 8, batch: int = 8) -> list[Record]:
    """A row per shape and candidate; the floor is 20 bytes per neuron and step at copying speed."""
    found = []
    for shape, sizes in LAYER_SHAPES.items():
        torch.manual_seed(0)
        current = torch.randn(steps, batch, *sizes, requires_grad=True)
        upstream, target = torch.randn(2, steps, batch, *sizes)
        layers = candidate_layers()
        refused = {name: layer_refusal(name, f, current, upstream) for name, f in layers.items()}

        timed: dict[str, Callable[[], object]] = {
            name: partial(_forward_and_backward, layer, current, upstream)
            for name, layer in layers.items()
            if not refused[name]
        }
        timed[FLOOR] = partial(target.copy_, upstream)
        times = interleave(timed, rounds, CLOCKS[clock])
        times[FLOOR] = [2.5 * t for t in times[FLOOR]]  # a copy moves 8 of the 20 bytes
        wrong = {name: why for name, why in refused.items() if why}
        found += records({"shape": shape, "T": steps, "B": batch}, times, "plain loop", wrong)
    return found
