"""Event-driven convolutions against oneDNN on the same spikes, channels-last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from robust_snn.benchmarks.timing import CLOCKS, Record, interleave, records
from robust_snn.kernels.convolution.event_driven import event_driven_convolution

CONVOLUTION_SHAPES = ((64, 32), (128, 16), (256, 8))
DENSITIES = (0.05, 0.1, 0.2)


def measure_convolutions(rounds: int, clock: str, images: int = 64) -> list[Record]:
    """A row per shape, share of spikes and candidate; 3x3, as many outputs as inputs."""
    found = []
    last = torch.channels_last
    for channels, size in CONVOLUTION_SHAPES:
        weight = torch.randn(channels, channels, 3, 3)
        laid_out = weight.contiguous(memory_format=last)
        for density in DENSITIES:
            torch.manual_seed(0)
            spikes = torch.rand(images, channels, size, size) < density
            bytes_ = spikes.to(torch.uint8).contiguous(memory_format=last)
            floats = bytes_.float()
            expected = F.conv2d(floats, weight, padding=1)
            refused = {}
            timed: dict[str, Callable[[], object]] = {
                "oneDNN": partial(F.conv2d, floats, laid_out, padding=1)
            }
            for name, x in (("events", floats), ("events, bytes", bytes_)):
                got = event_driven_convolution(x, laid_out, None, 1, 1)
                if got is None or (got - expected).norm() > 1e-5 * expected.norm():
                    refused[name] = "the outputs differ"
                else:
                    timed[name] = partial(event_driven_convolution, x, laid_out, None, 1, 1)
            shape = {"shape": f"{channels}->{channels}, {size}x{size}", "density": density}
            found += records(shape, interleave(timed, rounds, CLOCKS[clock]), "oneDNN", refused)
    return found
