"""One attack step on a network with a LIF class of its own, by every mode and by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.benchmarks.attack_step_speed import input_gradient
from robust_snn.benchmarks.fresh_process import added_memory, peak_apart
from robust_snn.benchmarks.timing import CLOCKS, Record, Times, interleave, records
from robust_snn.foreign import adapt

OWN = "the network's own"
SHAPES = ((4, 16), (8, 8))  # steps and images
MODES = ("own", "bptt", "bptt(surrogate=atan)", "bptr", "rga", "hart", "pdsg", "assg")


class _ATan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v >= 0).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return upstream[0] / (1 + (torch.pi * v) ** 2)


_ATan.__module__ = "somebody"  # functions of ours are never exchanged


class _LIF(nn.Module):
    """A neuron as most people write it: its membrane on the module, reset by hand."""

    v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = 0.5 * self.v + x
        spikes: Tensor = _ATan.apply(self.v - 1.0)
        self.v = self.v * (1 - spikes)
        return spikes

    def reset(self) -> None:
        self.v = 0.0


class ThreeLayers(nn.Module):
    """Three convolutions with 64 channels on 32x32, each with neurons, for `T` steps."""

    def __init__(self, T: int = 4, channels: int = 64) -> None:
        super().__init__()
        self.T = T
        layers: list[nn.Module] = []
        for before in (3, channels, channels):
            convolution = nn.Conv2d(before, channels, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), _LIF()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(16 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.modules():
            if isinstance(module, _LIF):
                module.reset()
        return torch.stack([self.head(self.layers(x)) for _ in range(self.T)]).mean(0)


def their_network(steps: int, batch: int, channels: int = 64) -> tuple[nn.Module, Tensor]:
    """The network, fixed as a victim fixes it and with rates as after training; and images."""
    torch.manual_seed(0)
    net, x = ThreeLayers(steps, channels), torch.rand(batch, 3, 32, 32)
    with torch.no_grad():
        for _ in range(8):  # batch norms see what they are going to see
            net(x)
    return net.eval().requires_grad_(False), x


def measure_foreign_steps(rounds: int, clock: str) -> list[Record]:
    """A row per gradient mode, with one thread and with two; below one is slower than by itself.

    Memory is the peak of a forward and backward pass at the first shape, and `of_own` its multiple
    of the network's own; it does not depend on threads. Processor time is of one thread.
    """
    found: list[Record] = []
    memory = {mode: peak_apart(foreign_step_peak, mode) for mode in (OWN, *MODES)}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2) if clock == "wall" else (1,):
            torch.set_num_threads(threads)
            for steps, batch in SHAPES:
                shape = {"threads": threads, "T": steps, "B": batch}
                rows = records(shape, _step_times(steps, batch, rounds, clock), OWN)
                for row in rows if (steps, batch) == SHAPES[0] else ():
                    row["MiB"] = memory[row["candidate"]]
                    row["of_own"] = round(row["MiB"] / memory[OWN], 2)
                found += rows
    finally:
        torch.set_num_threads(before)
    return found


def _step_times(steps: int, batch: int, rounds: int, clock: str) -> Times:
    net, x = their_network(steps, batch)
    timed: dict[str, Callable[[], object]] = {OWN: partial(input_gradient, net, x)}
    for mode in MODES:
        timed[mode] = partial(input_gradient, adapt(net, gradient=mode, images=x), x)
    return interleave(timed, rounds, CLOCKS[clock])


def foreign_step_peak(mode: str) -> float:
    """MiB that one step adds to the process; meant for a process of its own."""
    net, x = their_network(*SHAPES[0])
    model = net if mode == OWN else adapt(net, gradient=mode, images=x)
    input_gradient(model, x[:1])  # what is compiled or looked into once is not counted
    return added_memory(partial(input_gradient, model, x))
