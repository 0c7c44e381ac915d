"""What `sparse="auto"` chooses on every layer of three networks, against the better of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import Tensor, nn

from robust_snn.benchmarks.published_network import layer_inputs, network_with_rates
from robust_snn.benchmarks.timing import CLOCKS, Record, interleave, median
from robust_snn.kernels import convolve
from robust_snn.models.time_layers import TimeConv2d
from robust_snn.victim import Victim

BATCH = 8
CALLS = 5  # in a row, so that each finds the caches as the same way left them


def _networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Networks with the firing rates of trained ones, and the shapes of their images."""
    trained = ("snn_resnet20.cifar10", (3, 32, 32)), ("snn_vgg5.digits", (1, 8, 8))
    found = {name: (timm.create_model(name, pretrained=True), image) for name, image in trained}
    return {"snn_wrn16": (network_with_rates(), (3, 32, 32)), **found}


def _several(conv: TimeConv2d, x: Tensor, way: str) -> None:
    for _ in range(CALLS):
        convolve(x, conv, way)


@torch.no_grad()
def measure_sparse_choices(rounds: int, clock: str) -> list[Record]:
    """A row per layer that reads spikes: both ways, what was chosen, and its time by the less."""
    found = []
    for name, (net, image) in _networks().items():
        victim = Victim(net.eval(), sparse="auto")
        layers = layer_inputs(victim, torch.rand(BATCH, *image), TimeConv2d)
        for number, (conv, x) in enumerate(layers):
            if len(x) == 1:
                continue  # an image is no spikes
            ways: dict[str, Callable[[], object]] = {
                way: partial(_several, conv, x, way) for way in ("never", "always", "auto")
            }
            times = interleave(ways, rounds, CLOCKS[clock])
            ms = {way: round(median(t) / CALLS, 4) for way, t in times.items()}
            found.append(
                {
                    "network": name,
                    "layer": number,
                    "weights": "x".join(map(str, conv.weight.shape)),
                    "spikes": round(float((x != 0).float().mean()), 3),
                    **ms,
                    "auto_by_better": round(ms["auto"] / min(ms["never"], ms["always"]), 3),
                }
            )
    return found
