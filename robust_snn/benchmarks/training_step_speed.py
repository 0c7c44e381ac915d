"""One training step of WRN-16-4 and VGG-11: ours, a plain loop, SpikingJelly, the convolutions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.benchmarks.fresh_process import added_memory, peak_apart
from robust_snn.benchmarks.published_network import as_published, layer_inputs
from robust_snn.benchmarks.timing import CLOCKS, Record, interleave, records

NETWORKS = ("snn_wrn16", "snn_vgg11")
COMPACT = "bptt(save=compact)"
BASE, FLOOR = "plain loop", "convolutions, three passes"
Step = Callable[[], object]

# Ways to train our network: arguments of the model, its layout, and whether stages are recomputed.
LAST = torch.channels_last
OURS: dict[str, tuple[dict[str, Any], torch.memory_format, bool]] = {
    "ours": ({}, torch.contiguous_format, False),
    "ours, compact": ({"gradient": COMPACT}, torch.contiguous_format, False),
    "ours, recomputing": ({}, torch.contiguous_format, True),
    "ours, channels-last": ({}, LAST, False),
    "ours, bf16, channels-last": ({}, LAST, False),
    "ours, bf16, channels-last, recomputing": ({}, LAST, True),
}


class SpikingJellyNeurons(nn.Module):
    """SpikingJelly's neurons with many steps per call, and the same surrogate."""

    def __init__(self, neurons: Any) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        decay = neurons.dynamics.decay
        options = {"surrogate_function": surrogate.PiecewiseQuadratic(1.0), "step_mode": "m"}
        if decay == 1:
            self.node = neuron.IFNode(**options)
        else:
            self.node = neuron.LIFNode(tau=1 / (1 - decay), decay_input=False, **options)

    def forward(self, current: Tensor, steps: int, affine: object = None) -> Tensor:
        self.node.reset()
        spikes: Tensor = self.node(current)
        return spikes


def training_network(name: str, steps: int, width: float = 1.0, **kwargs: Any) -> nn.Module:
    """A network with the same random weights whatever its other arguments are, in train mode."""
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(name, T=steps, width=width, **kwargs)
    return net.train()


def candidate_network(case: str, name: str, steps: int, width: float = 1.0) -> nn.Module:
    """The network that a case trains."""
    if case == BASE:
        return as_published(training_network(name, steps, width), steps)
    if case == "spikingjelly":
        return as_published(training_network(name, steps, width), steps, SpikingJellyNeurons)
    kwargs, layout, recomputing = OURS[case]
    net: Any = training_network(name, steps, width, **kwargs).to(memory_format=layout)
    net.set_grad_checkpointing(recomputing)
    whole: nn.Module = net
    return whole


def training_step(case: str, net: nn.Module, images: Tensor) -> Step:
    """A training step: both passes and SGD, whose rate of 0 keeps every round the same."""
    labels = torch.arange(len(images), device=images.device) % 10
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    half = torch.autocast(images.device.type, torch.bfloat16)
    precision: AbstractContextManager[Any] = half if "bf16" in case else nullcontext()

    def run() -> None:
        optimizer.zero_grad()
        with precision:
            loss = F.cross_entropy(net(images).float(), labels)
        loss.backward()
        optimizer.step()

    return run


def training_refusal(net: nn.Module, plain: nn.Module, images: Tensor) -> str:
    """Why a network does not train like the plain one, or nothing: the gradient of all weights.

    Rounding may move a spike near the threshold, and that spike others.
    """
    found, labels = [], torch.arange(len(images), device=images.device) % 10
    for model in (net, plain):
        loss = F.cross_entropy(model(images), labels)
        parts = torch.autograd.grad(loss, list(model.parameters()))
        found.append(torch.cat([part.flatten() for part in parts]))
    alike = float(F.cosine_similarity(found[0], found[1], dim=0))
    return "" if alike > 0.98 else f"the gradient has cosine {alike:.3f} with the plain loop's"


def convolution_floor(
    plain: nn.Module,
    images: Tensor,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.contiguous_format,
) -> Step:
    """Both passes of every convolution and matrix alone: outputs, input and weight gradients."""
    calls: list[tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]] = []
    for layer, inputs in layer_inputs(plain, images, nn.Conv2d | nn.Linear):
        x, weight = inputs.detach().to(dtype), layer.weight.detach().to(dtype)
        call: Callable[..., Tensor] = F.linear
        if isinstance(layer, nn.Conv2d):
            x = x.flatten(0, 1).contiguous(memory_format=layout)
            weight = weight.contiguous(memory_format=layout)
            call = partial(F.conv2d, stride=layer.stride, padding=layer.padding)
        weight.requires_grad_()
        x.requires_grad_(bool(calls))  # the first one needs no gradient of the images
        calls.append((call, x, weight, torch.randn_like(call(x, weight).detach())))

    def run() -> None:
        for call, x, weight, upstream in calls:
            wanted = (x, weight) if x.requires_grad else (weight,)
            torch.autograd.grad(call(x, weight), wanted, upstream)

    return run


def measure_training(rounds: int, clock: str, steps: int = 8, batch: int = 8) -> list[Record]:
    """A row per network and way to train it, with the ratios of time and memory to the plain loop.

    `memory` is the share of the plain loop's peak, each measured in a fresh process.
    """
    found = []
    for name in NETWORKS:
        images = torch.rand(batch, 3, 32, 32)
        plain = candidate_network(BASE, name, steps)
        nets, refused = {BASE: plain}, {}
        for case in ("spikingjelly", *OURS):
            try:
                nets[case] = candidate_network(case, name, steps)
            except ImportError:
                continue
            if "bf16" not in case and (why := training_refusal(nets[case], plain, images)):
                refused[case] = why
        timed = {
            case: training_step(case, net, images)
            for case, net in nets.items()
            if case not in refused
        }
        times = interleave(
            {**timed, FLOOR: convolution_floor(plain, images)}, rounds, CLOCKS[clock]
        )
        peaks = {case: peak_apart(training_step_peak, case, name, steps, batch) for case in timed}
        for row in records({"shape": name, "T": steps, "B": batch}, times, BASE, refused):
            mib = peaks.get(row["candidate"])
            memory = "" if mib is None else round(mib / peaks[BASE], 3)
            found.append({**row, "MiB": "" if mib is None else mib, "memory": memory})
    return found


def training_step_peak(case: str, name: str, steps: int, batch: int) -> float:
    """MiB that one training step adds to the process; meant for a process of its own."""
    net = candidate_network(case, name, steps)
    training_step(case, net, torch.rand(1, 3, 32, 32))()  # compiles
    run = training_step(case, net, torch.rand(batch, 3, 32, 32))
    return added_memory(run)
